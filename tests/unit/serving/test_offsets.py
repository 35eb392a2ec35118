"""Mentions -> their places in the text."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.serving.offsets import MAX_SPANS, find_spans
from t2g_ray.serving.schema import TextSpan


def test_all_places_of_a_mention_are_found_from_left_to_right() -> None:
    assert find_spans("Ann met Ann.", "Ann") == [
        TextSpan(start=0, end=3),
        TextSpan(start=8, end=11),
    ]


def test_a_whole_word_is_preferred_to_a_part_of_one() -> None:
    assert find_spans("Anna met Ann.", "Ann") == [TextSpan(start=9, end=12)]
    assert find_spans("Annas car", "Ann") == [TextSpan(start=0, end=3)]
    assert find_spans("C++11 and C++", "C++") == [
        TextSpan(start=0, end=3),
        TextSpan(start=10, end=13),
    ]


def test_what_does_not_occur_has_no_place() -> None:
    assert find_spans("Ann", "ann") == find_spans("Ann", "") == find_spans("", "Ann") == []


def test_offsets_count_code_points() -> None:
    assert find_spans("\U0001f600 Zoe\u0301 lives", "lives") == [TextSpan(start=7, end=12)]


def test_the_number_of_places_is_bounded() -> None:
    assert len(find_spans("a " * 1000, "a")) == len(find_spans("ab" * 1000, "a")) == MAX_SPANS


@given(st.text("ab \u00e9", max_size=40), st.text("ab \u00e9", min_size=1, max_size=3))
def test_every_place_holds_the_mention_and_none_overlap(text: str, mention: str) -> None:
    spans = find_spans(text, mention)
    assert bool(spans) == (mention in text)
    assert all(text[span.start : span.end] == mention for span in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))


def places(text: str, mention: str) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in find_spans(text, mention)]


@pytest.mark.parametrize(
    ("text", "mention", "expected"),
    [
        # Scripts without blanks have words too.
        ("\u5317\u4eac\u5927\u5b66\u5728\u5317\u4eac", "\u5317\u4eac", [(0, 2), (5, 7)]),
        ("\u30c8\u30e8\u30bf\u81ea\u52d5\u8eca", "\u30c8\u30e8\u30bf", [(0, 3)]),
        ("\u0e1b\u0e23\u0e30\u0e40\u0e17\u0e28\u0e44\u0e17\u0e22", "\u0e44\u0e17\u0e22", [(6, 9)]),
        ("\uc11c\uc6b8\uc5d0\uc11c \uc11c\uc6b8", "\uc11c\uc6b8", [(5, 7)]),
        # A character is never cut in two.
        ("cafe cafe\u0301", "cafe", [(0, 4)]),
        ("Cafe\u0301", "Cafe", []),
        ("\u0e04\u0e33", "\u0e04", []),
        ("\U0001f468\u200d\U0001f469", "\U0001f468", []),
        ("\u0915\u094d\u0937", "\u0915", []),
        # Text and mention may be written with marks or without.
        ("Cafe\u0301 x", "Caf\u00e9", [(0, 5)]),
        ("Caf\u00e9", "Cafe\u0301", [(0, 4)]),
        ("Zoe\u0308 met Zo\u00eb", "Zo\u00eb", [(0, 4), (9, 12)]),
        ("\u212bngstr\u00f6m", "\u00c5ngstro\u0308m", [(0, 8)]),
        (unicodedata.normalize("NFD", "\uc11c\uc6b8"), "\uc11c\uc6b8", [(0, 5)]),
        # Numbers are whole with sign and fraction, languages with their marks.
        ("1995 5", "5", [(5, 6)]),
        ("3.5 5", "5", [(4, 5)]),
        ("-5 and 5", "5", [(7, 8)]),
        ("10,000 10", "10", [(7, 9)]),
        ("2010-2015", "2015", [(5, 9)]),
        ("C# and C", "C", [(7, 8)]),
        ("C++ C", "C", [(4, 5)]),
        # What Unicode keeps together and people do not.
        ("Ann's dog met Ann", "Ann", [(0, 3), (14, 17)]),
        ("l\u2019Or\u00e9al", "Or\u00e9al", [(2, 7)]),
        ("Acme.com", "Acme", [(0, 4)]),
        # A part of a word does not hide the word that overlaps it.
        ("ba a a", "a a", [(3, 6)]),
    ],
)
def test_characters_words_and_numbers_are_those_of_unicode(
    text: str, mention: str, expected: list[tuple[int, int]]
) -> None:
    assert places(text, mention) == expected


MARKED = st.text("ae \u00e9\u0301\u0308\u1161\u1100\uac00\u5317-5.", max_size=12)


@given(MARKED, MARKED)
def test_both_forms_of_a_text_have_the_same_places(text: str, mention: str) -> None:
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, text)  # type: ignore[arg-type]
        found = [other[start:end] for start, end in places(other, mention)]
        assert len(found) == len(places(text, mention))
        composed = {unicodedata.normalize("NFC", each) for each in found}
        assert composed <= {unicodedata.normalize("NFC", mention)}


def test_a_long_run_of_marks_costs_no_more_than_its_length() -> None:
    assert places("e" + "\u0301" * 60_000, "e") == []
    assert places("a" * 20_000, "a") == [(place, place + 1) for place in range(MAX_SPANS)]
