"""Our own records: {"text", "entity_types", "relation_types", "graph"}, JSON Lines or an array."""

from __future__ import annotations

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each
from t2g_ray.data.importers.row import Row, RowError
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.records.jsonl import RECORD_KEYS, record_from_dict


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys(*RECORD_KEYS)


def read(source: Source, options: ReadOptions) -> Drafts:
    return each(source.rows(), _draft)


def _draft(row: Row) -> RecordDraft:
    try:
        record = record_from_dict(row.value)
    except ValueError as error:
        raise RowError("wrong_shape", str(error)) from None
    return RecordDraft(
        place=row.place,
        text=record.text,
        entities=tuple((entity.text, entity.type) for entity in record.graph.entities),
        relations=tuple((r.head, r.tail, r.type) for r in record.graph.relations),
        entity_types=record.entity_types,
        relation_types=record.relation_types,
        extra=record.extra,
    )


LAYOUT = Layout(
    name="records",
    summary="records of this project: text, entity_types, relation_types, graph",
    looks_like=looks_like,
    read=read,
)
