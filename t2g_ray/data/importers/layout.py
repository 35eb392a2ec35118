"""What all importers share: rows of a source become drafts, or rejections that say why.

Row -> Draft -> Record (`finish` makes the last step)

Invariants: a row ends as drafts or as one rejection, never as nothing; a relation joins entities,
not their texts, wherever the source says which entities it means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.row import Rejection, Row, RowError
from t2g_ray.data.importers.source import Source, SourcePreview

End = int | str
"""Index of an entity of the draft; a text where the source says no more than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDraft:
    """One text with its graph as the source has it: types not renamed, nothing merged or checked.

    Example: RecordDraft(place="dev.json, record 3", text="Ann works for Acme.",
    entities=(("Ann", "Peop"), ("Acme", "Org")), relations=((0, 1, "Work_For"),)).
    `entity_types` and `relation_types` are None where the source has no schema. `absent` are the
    entity texts that do not stand in the text as the source means them. `notes` name what the
    layout holds and a record does not; they are counted.
    """

    place: str
    text: str
    entities: tuple[tuple[str, str], ...]
    relations: tuple[tuple[End, End, str], ...]
    entity_types: tuple[str, ...] | None = None
    relation_types: tuple[str, ...] | None = None
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


Drafts = Iterator[RecordDraft | Rejection]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What the user says of a source: a schema file, and the columns of its lines, by name."""

    schema_file: Path | None = None
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A native layout: how to recognise it and how to read it.

    `has_free_types` says that types are made up row by row, so that a row's schema is the types of
    that row; `has_relations`, that a text without relations is one in which none was found;
    `has_columns`, that the user can name its columns.
    """

    name: str
    summary: str
    looks_like: Callable[[SourcePreview], bool]
    read: Callable[[Source, ReadOptions], Drafts]
    has_free_types: bool = False
    has_relations: bool = True
    has_columns: bool = False


def each(rows: Iterable[Row | Rejection], convert: Callable[[Row], RecordDraft]) -> Drafts:
    """One draft a row. A RowError becomes a rejection: the one place where it is caught."""
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        try:
            yield convert(row)
        except RowError as error:
            yield error.rejection(row)


def unread(row: object, *known: str) -> tuple[str, ...]:
    """A note for each item of the lists and objects that a row has beside its known keys."""
    layers = row.items() if isinstance(row, dict) else ()
    return tuple(
        f"{key} not read"
        for key, layer in layers
        if key not in known and isinstance(layer, list | dict)
        for _ in layer
    )
