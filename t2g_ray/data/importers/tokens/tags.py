"""Token tags (BIO, IOB1, BILOU, BIOES, BMES) -> spans.

Invariant: every tagged token is in exactly one span. An inside tag that continues nothing opens a
span, as IOB1 has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2g_ray.data.importers.row import RowError

TokenSpan = tuple[int, int, str]
"""First token, token after the last, type."""

OPENS = frozenset("BUS")
CLOSES = frozenset("LEUS")
PREFIXES = frozenset("BILUESM")


def spans_of(tags: Sequence[str]) -> list[TokenSpan]:
    """The spans in order. Raises RowError for a tag that none of these schemes has."""
    spans: list[TokenSpan] = []
    start, open_type = 0, ""
    for index, tag in enumerate(tags):
        prefix, type_ = _split(tag)
        if open_type and (prefix == "O" or prefix in OPENS or type_ != open_type):
            spans.append((start, index, open_type))
            open_type = ""
        if prefix == "O":
            continue
        if not open_type:
            start, open_type = index, type_
        if prefix in CLOSES:
            spans.append((start, index + 1, open_type))
            open_type = ""
    if open_type:
        spans.append((start, len(tags), open_type))
    return spans


def _split(tag: str) -> tuple[str, str]:
    if tag == "O":
        return "O", ""
    prefix, dash, type_ = tag.partition("-")
    if prefix not in PREFIXES or not dash or not type_:
        raise RowError(
            "unknown_tag",
            f"a tag must be O or like B-Type (one of B I L U E S M), found {tag!r:.80}",
        )
    return prefix, type_
