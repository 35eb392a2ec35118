"""Text -> Unicode NFC, in time linear in its length.

`unicodedata.normalize` sorts the marks behind a letter by insertion, which takes quadratic time on
a long run of them: seconds for 60,000. Here such a run is sorted before.

Invariant: the result is that of `unicodedata.normalize("NFC", text)`, for every text.
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

MAX_UNSORTED_CHARS = 100
"""Shorter texts are normalised directly: no run of marks in them takes long."""


def composed(text: str) -> str:
    """The text in Unicode NFC."""
    if len(text) > MAX_UNSORTED_CHARS and not unicodedata.is_normalized("NFC", text):
        text = _sorted_marks(text)
    return unicodedata.normalize("NFC", text)


def _sorted_marks(text: str) -> str:
    """The text in Unicode NFD: every character decomposed, then each run of marks sorted by class.

    Characters are decomposed one by one, since some that are no marks decompose into marks.
    """
    characters = "".join(unicodedata.normalize("NFD", character) for character in text)
    runs = groupby(characters, key=lambda character: unicodedata.combining(character) > 0)
    return "".join(
        "".join(sorted(run, key=unicodedata.combining) if are_marks else run)
        for are_marks, run in runs
    )
