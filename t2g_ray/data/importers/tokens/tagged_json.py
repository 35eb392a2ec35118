"""Tags and indices: {"tokens", "tags" (BIO or BILOU), "relations": [{"head", "tail", "type"}]}.

Head and tail count the tagged entities from 0, in their order.
"""

from __future__ import annotations

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each, unread
from t2g_ray.data.importers.row import Row, RowError, get, strings
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.tags import spans_of
from t2g_ray.data.importers.tokens.token_graph import token_draft


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("tokens", "tags", "relations")


def read(source: Source, options: ReadOptions) -> Drafts:
    return each(source.rows(), _draft)


def _draft(row: Row) -> RecordDraft:
    tokens = strings(get(row.value, "tokens", list), "tokens")
    tags = strings(get(row.value, "tags", list), "tags")
    if len(tokens) != len(tags):
        raise RowError(
            "tags_do_not_fit", f"{len(tokens)} tokens must have as many tags, found {len(tags)}"
        )
    relations = [
        (get(item, "head", int), get(item, "tail", int), get(item, "type", str))
        for item in get(row.value, "relations", list)
    ]
    extra = {"id": row.value["orig_id"]} if "orig_id" in row.value else {}
    notes = unread(row.value, "tokens", "tags", "relations")
    return token_draft(row.place, tokens, spans_of(tags), relations, notes=notes, extra=extra)


LAYOUT = Layout(
    name="tagged_json",
    summary="JSON with BIO or BILOU tags and relations by entity index",
    looks_like=looks_like,
    read=read,
)
