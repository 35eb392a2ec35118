"""Completion text -> what the client gets for one text.

Invariant: a constrained answer holds a graph. The grammar makes every token fit the form but cannot
make the answer end in time, so an answer that reached the length limit keeps its complete items and
says so. Whatever else an answer lacks is named as what it is.
"""

from __future__ import annotations

from t2g_ray.graph import Graph
from t2g_ray.graph.constrained import close_graph
from t2g_ray.graph.parsing import ParseFailure, parse_completion
from t2g_ray.serving.offsets import find_spans
from t2g_ray.serving.schema import (
    AnsweredEntity,
    AnsweredGraph,
    AnsweredRelation,
    ExtractedAnswer,
    ParseKind,
    Timing,
    Tokens,
)

_CUT = "the answer met the length limit; the graph holds what was whole by then"


def to_answer(
    text: str,
    completion: str,
    *,
    is_constrained: bool,
    thinking: bool,
    tokens: Tokens,
    timing: Timing,
) -> ExtractedAnswer:
    """Read one completion; offsets are those in `text`."""
    parsed = parse_completion(completion, thinking=thinking)
    graph: Graph | None = parsed.graph
    kind: ParseKind = parsed.kind
    message: str | None = None
    if isinstance(parsed, ParseFailure):
        message = parsed.message
        # Only what ends too early was cut; all else is a fault that closing would hide.
        if is_constrained and parsed.kind in ("empty", "truncated"):
            graph, kind, message = parse_completion(close_graph(completion)).graph, "cut", _CUT
    return ExtractedAnswer(
        graph=None if graph is None else locate(graph, text),
        parse=kind,
        message=message,
        tokens=tokens,
        timing_ms=timing,
    )


def locate(graph: Graph, text: str) -> AnsweredGraph:
    """The graph with the spans of its entities in `text`."""
    entities = []
    for entity in graph.entities:
        spans = find_spans(text, entity.text)
        entities.append(
            AnsweredEntity(
                id=entity.id,
                text=entity.text,
                type=entity.type,
                start=spans[0].start if spans else None,
                end=spans[0].end if spans else None,
                spans=spans,
            )
        )
    relations = [AnsweredRelation(head=r.head, tail=r.tail, type=r.type) for r in graph.relations]
    return AnsweredGraph(entities=entities, relations=relations)
