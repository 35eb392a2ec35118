"""Spans as lists: {"tokens", "entities", "relations"}, a sentence a row.

entities [[start, end, type]], relations [[hs, he, ts, te, type]]. Ends are
exclusive; a relation repeats the spans of its two ends.
"""

from __future__ import annotations

from pathlib import Path

from t2g_ray.data.importers.layout import Draft, Drafts, Layout, each
from t2g_ray.data.importers.row import Row, fixed, get, strings
from t2g_ray.data.importers.source import Sample, Source
from t2g_ray.data.importers.tokens.token_graph import links_between, token_draft


def looks_like(sample: Sample) -> bool:
    if not sample.has_keys("tokens", "entities", "relations"):
        return False
    lists = [row[key] for row in sample.rows for key in ("entities", "relations")]
    return all(
        isinstance(items, list) and all(isinstance(i, list) for i in items) for items in lists
    )


def read(source: Source, schema_file: Path | None) -> Drafts:
    return each(source.rows(), _draft)


def _draft(row: Row) -> Draft:
    spans = [fixed(item, (int, int, str), "an entity") for item in get(row.value, "entities", list)]
    links = links_between(get(row.value, "relations", list), spans)
    return token_draft(row.place, strings(get(row.value, "tokens", list), "tokens"), spans, links)


LAYOUT = Layout(
    name="span_json",
    summary="JSON with entities [start, end, type] and relations [hs, he, ts, te, type]",
    looks_like=looks_like,
    read=read,
)
