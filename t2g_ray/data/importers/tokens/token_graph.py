"""A graph given by token spans -> draft: what the SpERT, DyGIE and CoNLL04 layouts share.

Invariant: a relation joins two mentions by their spans, so the source decides which of two equal
words is meant, and not their spelling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2g_ray.data.importers.layout import End, RecordDraft
from t2g_ray.data.importers.row import RowError, at, fixed, typed
from t2g_ray.data.importers.tokens.detokenize import detokenize
from t2g_ray.data.importers.tokens.tags import TokenSpan

STOP_CUT = "full stop cut off an entity"

TokenEnd = int | tuple[int, ...]
"""Index of a mention; where mentions of several types share a span, all of theirs."""
TokenRelation = tuple[TokenEnd, TokenEnd, str]
"""Head, tail, type."""


def token_relations(given: object, spans: Sequence[TokenSpan]) -> list[TokenRelation]:
    """Relations given by the spans of their ends, [hs, he, ts, te, type], as pairs of indices."""
    places: dict[tuple[int, int], list[int]] = {}
    for index, (start, end, _) in enumerate(spans):
        places.setdefault((start, end), []).append(index)
    relations: list[TokenRelation] = []
    for item in typed(given, list, "relations"):
        *bounds, type_ = fixed(item, (int, int, int, int, str), "a relation")
        head, tail = (bounds[0], bounds[1]), (bounds[2], bounds[3])
        if unknown := [span for span in (head, tail) if span not in places]:
            raise RowError(
                "unknown_relation_end",
                f"an end of {type_} must be the span of an entity, found {unknown[0]}",
            )
        ends = [_end(places[span], spans) for span in (head, tail)]
        relations.append((ends[0], ends[1], type_))
    return relations


def _end(indices: Sequence[int], spans: Sequence[TokenSpan]) -> TokenEnd:
    return indices[0] if len({spans[i][2] for i in indices}) == 1 else tuple(indices)


def token_draft(
    place: str,
    tokens: Sequence[str],
    spans: Sequence[TokenSpan],
    relations: Sequence[TokenRelation],
    *,
    entity_types: tuple[str, ...] | None = None,
    relation_types: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
    extra: Mapping[str, Any] | None = None,
) -> RecordDraft:
    """The draft of one sentence. Raises RowError for spans or indices that do not exist."""
    text = detokenize(tokens)
    found = [(text.slice(start, end), type_) for start, end, type_ in spans]
    entities = [_without_stray_stop(entity, found) for entity in found]

    def joined(end: TokenEnd, name: str) -> End:
        if isinstance(end, int):
            at(entities, end, f"{name} of a relation")
            return end
        return entities[end[0]][0]

    num_cut = sum(a != b for a, b in zip(found, entities, strict=True))
    return RecordDraft(
        place=place,
        text=text.text,
        entities=tuple(entities),
        relations=tuple((joined(h, "head"), joined(t, "tail"), type_) for h, t, type_ in relations),
        entity_types=entity_types,
        relation_types=relation_types,
        notes=(*notes, *(STOP_CUT,) * num_cut),
        extra=extra or {},
    )


def _without_stray_stop(
    entity: tuple[str, str], others: Sequence[tuple[str, str]]
) -> tuple[str, str]:
    """Cut the full stop of the sentence off a name that is in the same text without it."""
    text, type_ = entity
    bare = (text.removesuffix("."), type_)
    return bare if text.count(".") == 1 and bare in others else entity
