"""Text -> the form in which it is compared: exact, or relaxed.

Invariant: what the relaxed form leaves out carries no meaning where it stands. C# is not C,
Vitamin A is not a vitamin, -5 is not 5.
"""

from __future__ import annotations

import unicodedata
from itertools import takewhile

from t2g_ray.graph.composed import composed

ARTICLES = frozenset(("a", "an", "the"))

_STOPS = frozenset(
    ".,;:!?\u2026\u00a1\u00bf\u3001\u3002\uff0c\uff0e\uff1a\uff1b\uff01\uff1f\u060c\u061b\u061f\u0964\u00b7\u2022"
)
_QUOTES = frozenset("\"'`\u2019")
"""Quotes with one form for both ends; Unicode names the others Pi and Pf."""
_LONG_DASHES = frozenset("\u2014\u2015")
_CLOSING = {
    **dict(zip("([{", ")]}", strict=True)),
    **dict(zip("\u201c\u2018\u00ab\u201e", "\u201d\u2019\u00bb\u201c", strict=True)),
    **dict(zip("\uff08\u3010\u300c\u300e\u300a", "\uff09\u3011\u300d\u300f\u300b", strict=True)),
}
_PARTNERS = {**_CLOSING, **{closed: opened for opened, closed in _CLOSING.items()}}


def exact_form(text: str) -> str:
    """Trimmed and in Unicode NFC."""
    return text.strip() if text.isascii() else composed(text).strip()


def relaxed_form(text: str) -> str:
    """`exact_form` without case, articles and surrounding punctuation; spaces become single.

    An article is at the start, or a "the" before another word: other words of one letter are
    names ("Hepatitis A virus"). Punctuation is what ends or frames a phrase: stops, quotes,
    brackets, dashes; a mark that is part of its word stays (`_is_loose`). A text of nothing else
    ("The", "++") keeps what would be lost, so that it stays itself.
    """
    folded = exact_form(text).casefold()
    words = _bare(folded).split()
    articles = sum(1 for _ in takewhile(ARTICLES.__contains__, words[:-1]))
    kept = [word for word in words[articles:-1] if word != "the"] + words[-1:]
    return _bare(" ".join(kept)) or folded


def _bare(text: str) -> str:
    """The text without the marks and blanks around it."""
    start, end, present = 0, len(text), frozenset(text)
    while start < end:
        first, last = text[start], text[end - 1]
        if end - start > 1 and _are_pair(first, last):
            start, end = start + 1, end - 1
        elif _is_loose(last, text[max(start, end - 2) : end - 1], present, is_end=True):
            end -= 1
        elif _is_loose(first, text[start + 1 : min(end, start + 2)], present, is_end=False):
            start += 1
        else:
            break
    return text[start:end]


def _are_pair(first: str, last: str) -> bool:
    """Whether two marks frame what is between them, as brackets or *emphasis* of any kind do."""
    is_same = first == last and unicodedata.category(first).startswith("P")
    return is_same or _CLOSING.get(first) == last


def _is_loose(mark: str, inner: str, present: frozenset[str], *, is_end: bool) -> bool:
    """Whether a blank or mark at one end is no part of a word; `inner` is its neighbour, or empty.

    A stop or dash before a word is part of it in .NET and -5, a hyphen behind it in O-, a quote
    behind a number in 5\', a bracket whose partner stands inside in f(x).
    """
    kind = unicodedata.category(mark)
    if mark.isspace():
        return True
    if mark in _STOPS:
        return is_end or mark != "." or not inner.isalnum()
    if kind == "Pd":
        return mark in _LONG_DASHES or not (inner.isalnum() if is_end else inner.isdigit())
    if mark in _QUOTES or kind in ("Pi", "Pf"):
        return not (is_end and inner.isdigit())
    if kind in ("Ps", "Pe"):
        return _PARTNERS.get(mark) not in present
    return False
