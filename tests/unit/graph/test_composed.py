"""Unicode NFC in linear time, against the standard library's."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.data.near_texts import plain_text
from t2g_ray.graph.composed import MAX_UNSORTED_CHARS, composed
from t2g_ray.graph.forms import exact_form, relaxed_form

# Marks of several classes, marks that decompose, a class-0 mark that decomposes into marks,
# Hangul letters, and letters that decompose.
PIECES = "a A \u0301 \u0316 \u0345 \u0344 \u0f71 \u0f73 \u0f81 \u1100 \u1161 \u11a8 \uac00 \u00e9"
PIECES += " \u1ea5 \u212b \u3099 \u304b \u05b0 \u05bc \u0cc6 \u0cd5 \u0958 \U0001d15f \ufb1d"
pieces = st.sampled_from(PIECES.split())
LONG = 60_000


@given(st.lists(pieces | st.characters(), max_size=60).map("".join), st.integers(1, 9))
def test_every_text_becomes_what_the_standard_library_makes_of_it(text: str, times: int) -> None:
    assert composed(text) == unicodedata.normalize("NFC", text)
    many = text * (times + MAX_UNSORTED_CHARS // max(1, len(text)))
    assert composed(many) == unicodedata.normalize("NFC", many)


@pytest.mark.parametrize(
    "marks",
    [
        "\u0301\u0316",
        "\u0345\u0301\u0316",
        "\u0f73",  # no mark itself, and two marks when decomposed
        "\u0344\u0323",
        "\u05bc\u05b0",
        "\u1e69\u0323\u0307",
        "".join(map(chr, range(0x300, 0x36F))),
    ],
    ids=ascii,
)
def test_long_runs_of_marks_take_a_moment(marks: str) -> None:
    text = "a" + (marks * LONG)[:LONG]
    started_s = time.process_time()
    for form in (composed, exact_form, relaxed_form, plain_text):
        form(text)
    assert time.process_time() - started_s < 1


def test_many_short_runs_of_marks_take_a_moment_too() -> None:
    texts = ["a" + "\u0301\u0316" * (MAX_UNSORTED_CHARS // 2 - 1)] * (LONG // MAX_UNSORTED_CHARS)
    started_s = time.process_time()
    for text in texts:
        composed(text)
    assert time.process_time() - started_s < 1
