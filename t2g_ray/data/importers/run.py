"""A source -> records, rejections and the counts of both: what `t2g data import` does.

Invariant: drafts = records + rejections of drafts, and the rows that became no draft are
rejections too; changes inside kept rows are counted by what they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.finish import ImportOptions, finish
from t2g_ray.data.importers.layout import Layout, ReadOptions, RecordDraft
from t2g_ray.data.importers.listing import SPLIT_KEY
from t2g_ray.data.importers.registry import AUTO, layout_of
from t2g_ray.data.importers.row import Rejection
from t2g_ray.data.importers.schema import Schema, read_schema
from t2g_ray.data.importers.source import Source
from t2g_ray.graph.parsing import STRICT_JSON
from t2g_ray.records.files import TextFile, suffix_of
from t2g_ray.records.outputs import write_lines
from t2g_ray.types import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What came of a source. `changes` counts what was left out or merged in kept rows; `left_out`
    names the files of a folder that were not read."""

    layout: Layout
    records: list[Record]
    rejections: list[Rejection]
    changes: Mapping[str, int]
    left_out: list[str]

    @property
    def splits(self) -> dict[str, int]:
        """Records by split, where records name one."""
        splits = (str(r.extra[SPLIT_KEY]) for r in self.records if SPLIT_KEY in r.extra)
        return dict(Counter(splits))

    @property
    def counts(self) -> dict[str, int]:
        """Rows read, kept and rejected; entities and relations kept."""
        return {
            "rows": len(self.records) + len(self.rejections),
            "kept": len(self.records),
            "rejected": len(self.rejections),
            "entities": sum(len(record.graph.entities) for record in self.records),
            "relations": sum(len(record.graph.relations) for record in self.records),
        }

    @property
    def reasons(self) -> dict[str, int]:
        """Rejections by reason, the commonest first."""
        return dict(Counter(rejection.reason for rejection in self.rejections).most_common())


def import_source(
    source: Source,
    options: ImportOptions | None = None,
    *,
    layout: str = AUTO,
    schema_file: Path | None = None,
    columns: tuple[str, ...] | None = None,
) -> ImportResult:
    """Read a source in its layout. Raises ValueError for a source that cannot be read at all."""
    options = options or ImportOptions()
    if schema_file is not None:
        options = _with_schema(options, read_schema(schema_file))
    chosen = layout_of(source, layout)
    _check_asked(chosen, options, columns)
    asked = ReadOptions(schema_file=schema_file, columns=columns)
    by_split: dict[str | None, list[RecordDraft]] = {}
    rejections: list[Rejection] = []
    for split, part in source.parts():
        for item in chosen.read(part, asked):
            if isinstance(item, RecordDraft):
                by_split.setdefault(split, []).append(item)
            else:
                rejections.append(item)
    drafts = [
        _of_split(draft, split) if len(by_split) > 1 else draft
        for split, drafts_of_split in by_split.items()
        for draft in drafts_of_split
    ]
    changes: Counter[str] = Counter()
    records, faulty = finish(drafts, options, changes, is_free=chosen.has_free_types)
    return ImportResult(
        layout=chosen,
        records=records,
        rejections=rejections + faulty,
        changes=changes,
        left_out=source.left_out(),
    )


def _of_split(draft: RecordDraft, split: str | None) -> RecordDraft:
    """The draft with its split, where the source has several and it names none itself."""
    if split is None or SPLIT_KEY in draft.extra:
        return draft
    return replace(draft, extra={**draft.extra, SPLIT_KEY: split})


def _check_asked(layout: Layout, options: ImportOptions, columns: tuple[str, ...] | None) -> None:
    """Refuse what the layout cannot answer, so that absent gold is not read as empty gold."""
    if options.relation_types and not layout.has_relations:
        raise ValueError(
            f"{layout.name}: relation types must not be asked of a layout without relations, found "
            f"{[*options.relation_types]}; its texts were not searched for them"
        )
    if columns is not None and not layout.has_columns:
        raise ValueError(
            f"{layout.name}: --columns must go with a layout of columns (conll_columns, ade_rel), "
            f"found {[*columns]}"
        )


def _with_schema(options: ImportOptions, schema: Schema) -> ImportOptions:
    """The options, with the types of the file where they name none."""
    entity_types, relation_types = options.entity_types, options.relation_types
    if entity_types is None:
        entity_types = options.type_names(schema.entity_types)
    if relation_types is None:
        relation_types = options.type_names(schema.relation_types)
    return replace(options, entity_types=entity_types, relation_types=relation_types)


def read_types_map(value: str) -> dict[str, str]:
    """`Peop=person,Org=organization`, or a JSON file of such names; nothing after = drops a type.

    Raises ValueError with what was found.
    """
    if suffix_of(Path(value)) == ".json":
        try:
            names = STRICT_JSON.decode(TextFile.read(Path(value)).text())
        except ValueError as error:
            raise ValueError(f"{value}: must be a JSON object of names, found {error}") from None
    else:
        pairs = [pair.partition("=") for pair in value.split(",")]
        if wrong := [old for old, mark, _ in pairs if not mark or not old.strip()]:
            raise ValueError(
                f"--types-map must be like Peop=person,Org=organization or a .json file, found "
                f"{wrong[0]!r} in {value!r}"
            )
        names = {old.strip(): new.strip() for old, _, new in pairs}
        if len(names) < len(pairs):
            raise ValueError(f"--types-map must name each type once, found one again in {value!r}")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f'{value}: must be like {{"Peop": "person"}}, found {ascii(names)[:80]}')
    return names


def write_rejections(path: Path, rejections: list[Rejection]) -> None:
    """One JSON object a line: place, reason, message, and the row as it was read."""
    write_lines(path, (json.dumps(_plain(item), default=str) for item in rejections))


def _plain(item: Rejection) -> dict[str, Any]:
    return {
        "place": item.place,
        "reason": item.reason,
        "message": item.message,
        "row": item.value,
    }
