"""DyGIE and PURE: a document a line, {"sentences", "ner", "relations"}; a record a sentence.

Token positions count through the document and ends are inclusive: ner [[start, end, type]],
relations [[hs, he, ts, te, type]], a list for each sentence. Coreference clusters, events and
whatever else a document holds are counted, at its first sentence, and not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each, unread
from t2g_ray.data.importers.row import Rejection, Row, RowError, fixed, get, strings, typed
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.token_graph import token_draft, token_relations


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("sentences", "ner", "relations")


def read(source: Source, options: ReadOptions) -> Drafts:
    return each(sentences(source.rows()), _draft)


def sentences(documents: Iterable[Row | Rejection]) -> Iterator[Row | Rejection]:
    """Documents cut into sentences; one that cannot be cut is one rejection."""
    for row in documents:
        if isinstance(row, Rejection):
            yield row
            continue
        try:
            yield from _cut(row)
        except RowError as error:
            yield error.rejection(row)


def _cut(row: Row) -> list[Row]:
    lists = [get(row.value, key, list) for key in ("sentences", "ner", "relations")]
    if len({len(items) for items in lists}) != 1:
        raise RowError(
            "wrong_shape",
            "sentences, ner and relations must be of one length, found "
            f"{[len(items) for items in lists]}",
        )
    if not lists[0]:
        raise RowError("empty_text", "a document must have at least one sentence, found none")
    layers = unread(row.value, "sentences", "ner", "relations")
    rows, offset = [], 0
    for number, (words, ner, relations) in enumerate(zip(*lists, strict=True), start=1):
        tokens = strings(words, f"sentences[{number - 1}]")
        value = {"tokens": tokens, "ner": ner, "relations": relations, "offset": offset}
        value["notes"] = layers if number == 1 else ()
        if "doc_key" in row.value:
            value["id"] = f"{row.value['doc_key']}-{number}"
        rows.append(Row(place=f"{row.place}, sentence {number}", value=value))
        offset += len(tokens)
    return rows


def _draft(row: Row) -> RecordDraft:
    value: dict[str, Any] = row.value
    offset = value["offset"]
    mentions = [fixed(m, (int, int, str), "an entity") for m in typed(value["ner"], list, "ner")]
    spans = [(start - offset, end - offset + 1, type_) for start, end, type_ in mentions]
    relations = token_relations(value["relations"], mentions)
    extra = {"id": value["id"]} if "id" in value else {}
    return token_draft(
        row.place, value["tokens"], spans, relations, notes=value["notes"], extra=extra
    )


LAYOUT = Layout(
    name="dygie",
    summary="DyGIE or PURE JSON Lines: documents of sentences, ner and relations",
    looks_like=looks_like,
    read=read,
)
