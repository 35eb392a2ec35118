"""DocRED: {"title", "sents", "vertexSet", "labels"}; a record a document.

A vertex is one entity with all its mentions; it takes the text of its longest mention (the first
of equals). Relation codes get their names from a `*rel_info.json` beside the file.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.layout import Drafts, Layout, RecordDraft, each
from t2g_ray.data.importers.row import Row, RowError, at, fixed, get, strings, typed
from t2g_ray.data.importers.schema import Schema, read_schema
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.detokenize import TokenText, detokenize

OTHER_MENTION = "other mention of an entity not kept"


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("sents", "vertexSet")


def read(source: Source, schema_file: Path | None) -> Drafts:
    path = schema_file or source.side_file("*rel_info.json")
    schema = read_schema(path) if path else Schema()
    return each(source.rows(), partial(_draft, schema))


def _draft(schema: Schema, row: Row) -> RecordDraft:
    sentences = [strings(words, "a sentence") for words in get(row.value, "sents", list)]
    offsets = list(accumulate((len(words) for words in sentences), initial=0))
    text = detokenize([word for words in sentences for word in words])
    vertices = [typed(vertex, list, "a vertex") for vertex in get(row.value, "vertexSet", list)]
    entities = [_entity(vertex, offsets, text) for vertex in vertices]
    relations = []
    for label in typed(row.value.get("labels", []), list, "labels"):
        head, tail = (at(entities, get(label, end, int), f"{end} of a label") for end in "ht")
        code = get(label, "r", str)
        relations.append((head[0], tail[0], schema.names.get(code, code)))
    return RecordDraft(
        place=row.place,
        text=text.text,
        entities=tuple(entities),
        relations=tuple(relations),
        entity_types=schema.entity_types,
        relation_types=schema.relation_types,
        notes=(OTHER_MENTION,) * sum(len(vertex) - 1 for vertex in vertices),
        extra={"id": row.value["title"]} if "title" in row.value else {},
    )


def _entity(vertex: list[Any], offsets: list[int], text: TokenText) -> tuple[str, str]:
    """Text and type of the longest mention."""
    mentions: list[tuple[int, int, int, str]] = []
    for mention in vertex:
        sentence = get(mention, "sent_id", int)
        start, end = fixed(get(mention, "pos", list), (int, int), "pos")
        first = at(offsets[:-1], sentence, "sent_id") + start
        last = offsets[sentence] + end
        mentions.append((-len(text.slice(first, last)), first, last, get(mention, "type", str)))
    if not mentions:
        raise RowError("wrong_shape", "a vertex must have at least one mention, found none")
    _, first, last, type_ = min(mentions)
    return text.slice(first, last), type_


LAYOUT = Layout(
    name="docred",
    summary="DocRED or Re-DocRED JSON: sents, vertexSet, labels, with rel_info.json beside",
    looks_like=looks_like,
    read=read,
)
