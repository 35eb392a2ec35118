"""What all importers share: rows of a source become drafts, or rejections that say why.

Row -> Draft -> Record (`finish` makes the last step)

Invariant: a row ends as drafts or as one rejection, never as nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.row import Rejection, Row, RowError
from t2g_ray.data.importers.source import Source, SourcePreview


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDraft:
    """One text with its graph as the source has it: types not renamed, nothing merged or checked.

    Example: RecordDraft(place="dev.json, record 3", text="Ann works for Acme.",
    entities=(("Ann", "Peop"), ("Acme", "Org")), relations=(("Ann", "Acme", "Work_For"),)).
    `entity_types` and `relation_types` are None where the source has no schema. `notes` name what
    the layout holds and a record does not; they are counted.
    """

    place: str
    text: str
    entities: tuple[tuple[str, str], ...]
    relations: tuple[tuple[str, str, str], ...]
    entity_types: tuple[str, ...] | None = None
    relation_types: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


Drafts = Iterator[RecordDraft | Rejection]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A native layout: how to recognise it and how to read it.

    `read` takes the source and the schema file that the user named, if any. `has_free_types` says
    that types are made up row by row, so that a row's schema is the types of that row.
    """

    name: str
    summary: str
    looks_like: Callable[[SourcePreview], bool]
    read: Callable[[Source, Path | None], Drafts]
    has_free_types: bool = False


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
