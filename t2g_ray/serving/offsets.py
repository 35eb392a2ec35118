"""Entity text -> where it occurs in the text, in Unicode code points.

Invariant: text[start:end] is the entity's text, for every span returned.
"""

from __future__ import annotations

from t2g_ray.serving.schema import TextSpan

MAX_SPANS = 100


def find_spans(text: str, mention: str) -> list[TextSpan]:
    """All spans of `mention` that do not overlap, from left to right, at most MAX_SPANS.

    "Ann" is not found inside "Anna" as long as it occurs somewhere as a word of its own; where it
    does not, parts of words count. Case counts. Example: find_spans("Ann met Anna.", "Ann") is
    [TextSpan(start=0, end=3)]. Time is linear in the length of the text times that of the mention.
    """
    if not mention:
        return []
    whole: list[TextSpan] = []
    partial: list[TextSpan] = []
    start = text.find(mention)
    while start >= 0 and len(whole) < MAX_SPANS:
        end = start + len(mention)
        if _is_whole(text, start, end):
            whole.append(TextSpan(start=start, end=end))
        elif len(partial) < MAX_SPANS:
            partial.append(TextSpan(start=start, end=end))
        start = text.find(mention, end)
    return whole or partial


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no word continues across either end."""
    goes_on_before = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
    goes_on_after = end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
    return not (goes_on_before or goes_on_after)
