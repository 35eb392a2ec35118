"""Spans as lists: {"tokens", "entities", "relations"}, a sentence a row.

entities [[start, end, type]], relations [[hs, he, ts, te, type]]. Ends are
exclusive; a relation repeats the spans of its two ends.
"""

from __future__ import annotations

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each, unread
from t2g_ray.data.importers.row import Row, fixed, get, strings
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.token_graph import token_draft, token_relations


def looks_like(preview: SourcePreview) -> bool:
    if not preview.has_keys("tokens", "entities", "relations"):
        return False
    lists = [row[key] for row in preview.rows for key in ("entities", "relations")]
    return all(
        isinstance(items, list) and all(isinstance(i, list) for i in items) for items in lists
    )


def read(source: Source, options: ReadOptions) -> Drafts:
    return each(source.rows(), _draft)


def _draft(row: Row) -> RecordDraft:
    spans = [fixed(item, (int, int, str), "an entity") for item in get(row.value, "entities", list)]
    relations = token_relations(get(row.value, "relations", list), spans)
    tokens = strings(get(row.value, "tokens", list), "tokens")
    notes = unread(row.value, "tokens", "entities", "relations")
    return token_draft(row.place, tokens, spans, relations, notes=notes)


LAYOUT = Layout(
    name="span_json",
    summary="JSON with entities [start, end, type] and relations [hs, he, ts, te, type]",
    looks_like=looks_like,
    read=read,
)
