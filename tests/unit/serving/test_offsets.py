"""Mentions -> their places in the text."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.serving.offsets import MAX_SPANS, find_spans
from t2g_ray.serving.schema import (
    TextSpan,
)


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
