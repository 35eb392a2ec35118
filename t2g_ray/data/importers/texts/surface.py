"""Names of a knowledge base -> the form they have in a text.

Invariants: what `surface` returns is a substring of the text that is no part of a longer word or
number, or None; two names are two entities, also where the text has one form for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import category

from t2g_ray.data.importers.tokens.detokenize import UNSPACED_CHARACTER

LITERAL_SUFFIX = re.compile(r'(?<=")(@[\w-]+|\^\^\S+)$')
MIS_DECODED = re.compile(
    "[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014"
    "\u2018-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]{2,}"
)
"""Runs of the characters that UTF-8 bytes above 127 turn into when read as Latin-1 or cp1252."""
ONE_FORM = "different names merged, which have one form in the text"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesInText:
    """Names in the order of the text: the form of each, its index by name, and what is missing."""

    forms: tuple[str, ...]
    indices: dict[str, int]
    absent: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        return (ONE_FORM,) * (len(self.forms) - len(set(self.forms)))


def names_in_text(names: Sequence[str], text: str) -> NamesInText:
    """The forms of these names (of a knowledge base, as they are written there) in the text."""
    found = {name: surface(plain_name(name), text) for name in names}
    forms = {name: form or plain_name(name) for name, form in found.items()}
    order = sorted(forms, key=lambda name: text.find(forms[name]))
    return NamesInText(
        forms=tuple(forms[name] for name in order),
        indices={name: index for index, name in enumerate(order)},
        absent=tuple(forms[name] for name in order if found[name] is None),
    )


def plain_name(name: str) -> str:
    """`Alba_Iulia` -> Alba Iulia, `"Romania"@en` -> Romania."""
    bare = LITERAL_SUFFIX.sub("", name.strip())
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        bare = bare[1:-1]
    return bare.replace("_", " ").strip()


def surface(name: str, text: str) -> str | None:
    """The name as the text has it, as whole words: exactly, else whatever its case."""
    for flags in (0, re.IGNORECASE):
        if form := next(_whole(name, text, flags), None):
            return form
    return None


def _whole(name: str, text: str, flags: int) -> Iterator[str]:
    for found in re.finditer(f"(?={re.escape(name)})", text, flags) if name else ():
        start, end = found.start(), found.start() + len(name)
        if is_whole(text, start, end):
            yield text[start:end]


def is_whole(text: str, start: int, end: int) -> bool:
    """Whether these characters are no part of a longer word ("Alba" in "Albania") or number ("5" in
    "1995", in "5.2", in "-5") or name ("C" in "C#", in "C++")."""
    first, last, before, after = text[start], text[end - 1], text[:start][-2:], text[end : end + 2]
    if category(after[:1] or " ").startswith("M"):
        return False
    if _is_word(before[-1:]) and _is_word(first) and not _is_unspaced(before[-1:], first):
        return False
    if _is_word(last) and _is_word(after[:1]) and not _is_unspaced(last, after[:1]):
        return False
    if first.isdigit() and (
        re.fullmatch(r"\d[.,]", before) or re.fullmatch(r"(^|\W)[-\u2212]", before)
    ):
        return False
    if last.isalnum() and (after.startswith("#") or after == "++"):
        return False
    return not (last.isdigit() and re.fullmatch(r"[.,]\d", after))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_" or category(character or " ").startswith("M")


def _is_unspaced(left: str, right: str) -> bool:
    """Whether a word can end between two letters, because their script has no spaces."""
    return any(UNSPACED_CHARACTER.match(character) for character in (left, right))


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
