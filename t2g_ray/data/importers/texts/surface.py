"""Names of a knowledge base -> the form they have in a text.

Invariant: what `surface` returns is a substring of the text, or None.
"""

from __future__ import annotations

import re

LITERAL_SUFFIX = re.compile(r'(?<=")(@[\w-]+|\^\^\S+)$')
MIS_DECODED = re.compile(
    "[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014"
    "\u2018-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]{2,}"
)
"""Runs of the characters that UTF-8 bytes above 127 turn into when read as Latin-1 or cp1252."""


def plain_name(name: str) -> str:
    """`Alba_Iulia` -> Alba Iulia, `"Romania"@en` -> Romania."""
    return LITERAL_SUFFIX.sub("", name.strip()).strip('"').replace("_", " ").strip()


def surface(name: str, text: str) -> str | None:
    """The name as the text has it: exactly, else as whole words whatever their case."""
    if name in text:
        return name
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    return found.group() if found else None


def mend(text: str) -> str:
    """Undo UTF-8 that was read as Latin-1 or cp1252, wherever the bytes are valid UTF-8 again."""
    return MIS_DECODED.sub(lambda run: _decode_again(run.group()), text)


def _decode_again(run: str) -> str:
    try:
        return b"".join(_byte(character) for character in run).decode("utf-8")
    except UnicodeError:
        return run


def _byte(character: str) -> bytes:
    return character.encode("latin-1" if ord(character) < 256 else "cp1252")
