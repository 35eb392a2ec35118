"""DocRED: {"title", "sents", "vertexSet", "labels"}; a record a document.

A vertex is one entity with all its mentions; it takes the text of its longest mention (the first
of equals). Vertices that would get one text take the longest mention that no other vertex has.
Relation codes get their names from a `*rel_info.json` beside the file.

Invariant: a document without labels, as in a test set, is no document without relations.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import accumulate
from typing import Any

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each, unread
from t2g_ray.data.importers.row import Row, RowError, at, fixed, get, strings, typed
from t2g_ray.data.importers.schema import Schema, read_schema
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.detokenize import TokenText, detokenize

OTHER_MENTION = "other mention of an entity not kept"
ONE_NAME = "different entities of one text and type merged"
TYPES_DIFFER = "entity whose mentions have several types, that of its name kept"

Mention = tuple[str, str]
"""Text, type."""


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("sents", "vertexSet")


def read(source: Source, options: ReadOptions) -> Drafts:
    path = options.schema_file or source.side_file("*rel_info.json")
    schema = read_schema(path) if path else Schema()
    return each(source.rows(), partial(_draft, schema))


def _draft(schema: Schema, row: Row) -> RecordDraft:
    sentences = [strings(words, "a sentence") for words in get(row.value, "sents", list)]
    text = detokenize([word for words in sentences for word in words])
    vertices = [
        _mentions(typed(vertex, list, "a vertex"), sentences, text)
        for vertex in get(row.value, "vertexSet", list)
    ]
    entities = _names(vertices)
    if "labels" not in row.value:
        raise RowError(
            "no_labels",
            "a document must have the key 'labels' (an empty list where it has no relation), found "
            "none: a document of a test set says nothing of its relations",
        )
    relations, notes = [], list(unread(row.value, "sents", "vertexSet", "labels"))
    for label in get(row.value, "labels", list):
        head, tail = (get(label, end, int) for end in "ht")
        for end, index in (("h", head), ("t", tail)):
            at(entities, index, f"{end} of a label")
        code = get(label, "r", str)
        relations.append((head, tail, schema.names.get(code, code)))
    notes += [OTHER_MENTION] * sum(len(vertex) - 1 for vertex in vertices)
    notes += [ONE_NAME] * (len(entities) - len(set(entities)))
    notes += [TYPES_DIFFER] * sum(len({type_ for _, type_ in v}) > 1 for v in vertices)
    return RecordDraft(
        place=row.place,
        text=text.text,
        entities=tuple(entities),
        relations=tuple(relations),
        entity_types=schema.entity_types,
        relation_types=schema.relation_types,
        notes=tuple(notes),
        extra={"id": row.value["title"]} if "title" in row.value else {},
    )


def _mentions(vertex: list[Any], sentences: list[list[str]], text: TokenText) -> list[Mention]:
    """Text and type of every mention, the longest first, then in the order of the text."""
    offsets = list(accumulate((len(words) for words in sentences), initial=0))
    found: list[tuple[int, int, int, str]] = []
    for mention in vertex:
        number = get(mention, "sent_id", int)
        words = at(sentences, number, "sent_id")
        start, end = fixed(get(mention, "pos", list), (int, int), "pos")
        if not 0 <= start < end <= len(words):
            raise RowError(
                "span_out_of_range",
                f"pos must be inside the {len(words)} tokens of sentence {number} and not empty, "
                f"found {start} to {end}",
            )
        first, last = offsets[number] + start, offsets[number] + end
        found.append((-len(text.slice(first, last)), first, last, get(mention, "type", str)))
    if not found:
        raise RowError("wrong_shape", "a vertex must have at least one mention, found none")
    return [(text.slice(first, last), type_) for _, first, last, type_ in sorted(found)]


def _names(vertices: list[list[Mention]]) -> list[Mention]:
    """A mention for each vertex: its longest, or one that tells it from the others."""
    num_longest = Counter(vertex[0][0] for vertex in vertices)
    num_vertices = Counter(text for vertex in vertices for text in {text for text, _ in vertex})
    return [
        next((m for m in vertex if num_vertices[m[0]] == 1), vertex[0])
        if num_longest[vertex[0][0]] > 1
        else vertex[0]
        for vertex in vertices
    ]


LAYOUT = Layout(
    name="docred",
    summary="DocRED or Re-DocRED JSON: sents, vertexSet, labels, with rel_info.json beside",
    looks_like=looks_like,
    read=read,
)
