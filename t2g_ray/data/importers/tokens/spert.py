"""SpERT: {"tokens", "entities", "relations"}, a sentence a row.

entities [{"type", "start", "end"}], relations [{"type", "head", "tail"}]. Ends of spans are
exclusive; head and tail are indices of entities. A `*types.json` beside the file is the schema.
"""

from __future__ import annotations

from functools import partial

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each, unread
from t2g_ray.data.importers.row import Row, get, strings
from t2g_ray.data.importers.schema import Schema, read_schema
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.token_graph import token_draft


def looks_like(preview: SourcePreview) -> bool:
    if not preview.has_keys("tokens", "entities", "relations"):
        return False
    lists = [row[key] for row in preview.rows for key in ("entities", "relations")]
    return all(
        isinstance(items, list) and all(isinstance(i, dict) for i in items) for items in lists
    )


def read(source: Source, options: ReadOptions) -> Drafts:
    path = options.schema_file or source.side_file("*types.json")
    schema = read_schema(path) if path else Schema()
    return each(source.rows(), partial(_draft, schema))


def _draft(schema: Schema, row: Row) -> RecordDraft:
    spans = [
        (get(item, "start", int), get(item, "end", int), get(item, "type", str))
        for item in get(row.value, "entities", list)
    ]
    relations = [
        (get(item, "head", int), get(item, "tail", int), get(item, "type", str))
        for item in get(row.value, "relations", list)
    ]
    return token_draft(
        row.place,
        strings(get(row.value, "tokens", list), "tokens"),
        spans,
        relations,
        entity_types=schema.entity_types,
        relation_types=schema.relation_types,
        notes=unread(row.value, "tokens", "entities", "relations"),
        extra={"id": row.value["orig_id"]} if "orig_id" in row.value else {},
    )


LAYOUT = Layout(
    name="spert",
    summary="SpERT JSON: tokens, entities by span, relations by entity index",
    looks_like=looks_like,
    read=read,
)
