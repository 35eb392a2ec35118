"""Entity text -> where it occurs in the text, in Unicode code points.

Characters, words and numbers are those of Unicode (UAX 29, by the `regex` library), so that a span
never cuts a character in two, and scripts without blanks have words as well.

Invariant: text[start:end] is the entity's text, or canonically equal to it where one of the two is
written with combining marks, for every span returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import regex

from t2g_ray.graph.composed import composed
from t2g_ray.serving.schema import TextSpan

MAX_SPANS = 100

_CHARACTER = regex.compile(r"\X")
_WORD_BREAK = regex.compile(r"(?w)\b")
_NUMBER = regex.compile(r"(?:(?<!\w)[-\u2212])?\d+(?:[.,]\d+)*")
_JOINS = frozenset("'\u2019.:\u00b7")
"""Unicode keeps "Ann's" and "Acme.com" together, where the name before the mark is a mention."""
_SUFFIXES = frozenset("#+")
"""C is no mention of C# or C++."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as it is searched: composed, with what its places are in the original."""

    composed: str
    original: dict[int, int]
    """Start of each character in the composed text -> its start in the original; and the ends."""
    edges: frozenset[int]
    """Places in the original where a word may begin or end."""


def find_spans(text: str, mention: str) -> list[TextSpan]:
    """All spans of `mention` that do not overlap, from left to right, at most MAX_SPANS.

    "Ann" is not found inside "Anna" as long as it occurs somewhere as a word of its own; where it
    does not, parts of words count. Case counts. Example: find_spans("Ann met Anna.", "Ann") is
    [TextSpan(start=0, end=3)]. Time is linear in the length of the text times that of the mention.
    """
    if not mention:
        return []
    searched = _prepared(text)
    whole: list[tuple[int, int]] = []
    partial: list[tuple[int, int]] = []
    for start, end in _occurrences(searched, composed(mention)):
        spans = whole if start in searched.edges and end in searched.edges else partial
        if len(spans) < MAX_SPANS and (not spans or start >= spans[-1][1]):
            spans.append((start, end))
        if len(whole) == MAX_SPANS:
            break
    return [TextSpan(start=start, end=end) for start, end in whole or partial]


def _occurrences(searched: _Text, mention: str) -> Iterator[tuple[int, int]]:
    start = searched.composed.find(mention)
    while start >= 0:
        first, last = (searched.original.get(at) for at in (start, start + len(mention)))
        if first is not None and last is not None:
            yield first, last
        start = searched.composed.find(mention, start + 1)


@lru_cache(maxsize=32)  # the entities of an answer are searched in one text
def _prepared(text: str) -> _Text:
    characters: list[str] = _CHARACTER.findall(text)
    shown = [composed(character) for character in characters]
    original, at, place = {}, 0, 0
    for character, short in zip(characters, shown, strict=True):
        original[at] = place
        at, place = at + len(short), place + len(character)
    original[at] = place
    return _Text("".join(shown), original, _edges(text))


def _edges(text: str) -> frozenset[int]:
    breaks = {match.start() for match in _WORD_BREAK.finditer(text)} | {0, len(text)}
    for at in range(1, len(text)):
        if text[at] in _JOINS or text[at - 1] in _JOINS:
            breaks.add(at)
        elif text[at] in _SUFFIXES and text[at - 1].isalnum():
            breaks.discard(at)
    for number in _NUMBER.finditer(text):
        breaks.difference_update(range(number.start() + 1, number.end()))
    return frozenset(breaks)
