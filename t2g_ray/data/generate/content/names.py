"""A record -> the same record with other names, in its text and in its graph.

A name is replaced by one of the same type from other records, everywhere at once. Invariant: the
new graph says of the new text what the old one said of the old text. So a name is left alone when
the text uses part of it by itself ("Ada Quill ... Quill"), when it overlaps another, or when it
has two types; and a new name shares no word with the text or with another name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from t2g_ray.graph import Graph
from t2g_ray.types import Record

MAX_TRIES = 20
"""Names that are tried for one entity before it is left as it is."""
_WORD = re.compile(r"\w+")

Pool = Mapping[str, Sequence[str]]
"""Type -> names, sorted."""


def name_pool(records: Sequence[Record]) -> dict[str, list[str]]:
    """The names of every entity type; those that also have another type are left out."""
    types: dict[str, set[str]] = {}
    for record in records:
        for entity in record.graph.entities:
            types.setdefault(entity.text, set()).add(entity.type)
    pool: dict[str, list[str]] = {}
    for name in sorted(types):
        if len(types[name]) == 1:
            pool.setdefault(next(iter(types[name])), []).append(name)
    return pool


def swap_names(record: Record, pool: Pool, rng: np.random.Generator) -> Record | None:
    """The record with every name replaced that can be; None when none can."""
    names = _swappable(record)
    taken = set(_words(record.text))
    swaps: dict[str, str] = {}
    for name, type_ in names.items():
        new = _draw(name, pool.get(type_, ()), taken, rng)
        if new is not None:
            swaps[name] = new
            taken |= _words(new)
    if not swaps:
        return None
    pattern = _pattern(swaps)

    def renamed(text: str) -> str:
        return swaps.get(text, text)

    graph = record.graph
    return replace(
        record,
        text=pattern.sub(lambda match: swaps[match[0]], record.text),
        graph=Graph(
            entities=tuple(replace(e, text=renamed(e.text)) for e in graph.entities),
            relations=tuple(
                replace(r, head=renamed(r.head), tail=renamed(r.tail)) for r in graph.relations
            ),
        ),
    )


def _swappable(record: Record) -> dict[str, str]:
    """Name -> type of the entities that can be replaced without touching another's words."""
    types: dict[str, set[str]] = {}
    for entity in record.graph.entities:
        types.setdefault(entity.text, set()).add(entity.type)
    names: dict[str, str] = {}
    for name, own in types.items():
        others = set().union(*(_words(other) for other in types if other != name))
        rest, num_places = _pattern([name]).subn(" ", record.text)
        is_alone = num_places > 0 and not _words(name) & (others | _words(rest))
        if len(own) == 1 and is_alone:
            names[name] = next(iter(own))
    return names


def _draw(name: str, names: Sequence[str], taken: set[str], rng: np.random.Generator) -> str | None:
    for index in rng.permutation(len(names))[:MAX_TRIES].tolist():
        new: str = names[index]
        if new != name and not _words(new) & taken and _sounds_alike(name, new):
            return new
    return None


def _sounds_alike(name: str, new: str) -> bool:
    """Whether both begin with a vowel or neither does, so that "a" and "an" stay right."""
    return (name[0].lower() in "aeiou") == (new[0].lower() in "aeiou")


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _pattern(names: Sequence[str] | Mapping[str, str]) -> re.Pattern[str]:
    """Any of the names as whole words, the longest first."""
    parts = sorted((re.escape(name) for name in names), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)")
