"""A graph given by token spans -> draft: what the SpERT, DyGIE and CoNLL04 layouts share.

Invariant: a relation joins two mentions by their spans, so the source decides which of two equal
words is meant, and not their spelling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2g_ray.data.importers.layout import RecordDraft
from t2g_ray.data.importers.row import RowError, at, fixed, typed
from t2g_ray.data.importers.tokens.detokenize import detokenize
from t2g_ray.data.importers.tokens.tags import TokenSpan

STOP_CUT = "full stop cut off an entity"

TokenRelation = tuple[int, int, str]
"""Index of the head's span, index of the tail's span, type."""


def token_relations(given: object, spans: Sequence[TokenSpan]) -> list[TokenRelation]:
    """Relations given by the spans of their ends, [hs, he, ts, te, type], as pairs of indices."""
    places = {(start, end): index for index, (start, end, _) in enumerate(spans)}
    relations: list[TokenRelation] = []
    for item in typed(given, list, "relations"):
        *ends, type_ = fixed(item, (int, int, int, int, str), "a relation")
        head, tail = (ends[0], ends[1]), (ends[2], ends[3])
        if unknown := [span for span in (head, tail) if span not in places]:
            raise RowError(
                "unknown_relation_end",
                f"an end of {type_} must be the span of an entity, found {unknown[0]}",
            )
        relations.append((places[head], places[tail], type_))
    return relations


def token_draft(
    place: str,
    tokens: Sequence[str],
    spans: Sequence[TokenSpan],
    relations: Sequence[TokenRelation],
    *,
    entity_types: tuple[str, ...] | None = None,
    relation_types: tuple[str, ...] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> RecordDraft:
    """The draft of one sentence. Raises RowError for spans or indices that do not exist."""
    text = detokenize(tokens)
    found = [(text.slice(start, end), type_) for start, end, type_ in spans]
    entities = [_without_stray_stop(entity, found) for entity in found]
    named = tuple(
        (
            at(entities, head, "head of a relation")[0],
            at(entities, tail, "tail of a relation")[0],
            type_,
        )
        for head, tail, type_ in relations
    )
    return RecordDraft(
        place=place,
        text=text.text,
        entities=tuple(entities),
        relations=named,
        entity_types=entity_types,
        relation_types=relation_types,
        notes=(STOP_CUT,) * sum(a != b for a, b in zip(found, entities, strict=True)),
        extra=extra or {},
    )


def _without_stray_stop(
    entity: tuple[str, str], others: Sequence[tuple[str, str]]
) -> tuple[str, str]:
    """Cut the full stop of the sentence off a name that is in the same text without it."""
    text, type_ = entity
    bare = (text.removesuffix("."), type_)
    return bare if text.count(".") == 1 and bare in others else entity
