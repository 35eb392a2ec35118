"""Completion text and record -> one finite reward with its named parts.

Each part maps (Parsed | ParseFailure, Record, thinking) to [0, 1]; a preset weighs them. What a
completion could earn without reading the text is worth nothing: a failed parse earns 0 in every
part, and an empty graph where there is something to find earns only that it is JSON.

Invariant: a fault of a part is never a reward. `score_completion` lets it out, and `grade`, the
one place that catches, tags it "grader_error".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite

from t2g_ray.graph import Graph
from t2g_ray.parsing import Parsed, ParseFailure, parse_completion
from t2g_ray.scoring import (
    count_entities,
    count_relations,
    entity_keys,
    exact_form,
    relation_keys,
    score_graph,
    soft_f1_entities,
    soft_f1_relations,
)
from t2g_ray.types import Record, Reward

Part = Callable[[Parsed | ParseFailure, Record, bool], float]

_logger = logging.getLogger(__name__)


def format_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """1.0 if the answer follows exactly one non-empty reasoning. Only weighed when thinking."""
    if isinstance(outcome, ParseFailure) or _answer(outcome, record) is None:
        return 0.0
    return float(outcome.think_ok)


def json_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """1.0 for a graph and nothing else; each character around it dilutes the answer."""
    if isinstance(outcome, ParseFailure):
        return 0.0
    return outcome.graph_chars / (outcome.graph_chars + outcome.outside_chars)


def schema_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """Share of items that obey the request: a wanted type, a unique id, no copy of an earlier
    item, and relation ends that are listed entities. An empty graph obeys it.
    """
    graph = _answer(outcome, record)
    if graph is None:
        return 0.0
    num_items = len(graph.entities) + len(graph.relations)
    return _num_obedient(graph, record) / num_items if num_items else 1.0


def grounding_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """Share of entities whose text stands in the record's text. Without entities 1.0 only if the
    gold graph has none either.
    """
    graph = _answer(outcome, record)
    if graph is None:
        return 0.0
    if not graph.entities:
        return float(not record.graph.entities)
    source = exact_form(record.text)
    texts = [exact_form(entity.text) for entity in graph.entities]
    return sum(text != "" and text in source for text in texts) / len(texts)


def f1_entities_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """Exact F1 of this record's entities; empty = empty is 1.0."""
    graph = _answer(outcome, record)
    return 0.0 if graph is None else count_entities(record.graph, graph).f1


def f1_relations_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """Exact F1 of this record's relations; empty = empty is 1.0."""
    graph = _answer(outcome, record)
    return 0.0 if graph is None else count_relations(record.graph, graph).f1


def soft_entities_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """Entity F1 with part of a point for near misses, so that early groups do not tie."""
    graph = _answer(outcome, record)
    return 0.0 if graph is None else soft_f1_entities(record.graph, graph)


def soft_relations_part(outcome: Parsed | ParseFailure, record: Record, thinking: bool) -> float:
    """Relation F1 with part of a point for near misses, such as one right end."""
    graph = _answer(outcome, record)
    return 0.0 if graph is None else soft_f1_relations(record.graph, graph)


def _answer(outcome: Parsed | ParseFailure, record: Record) -> Graph | None:
    """The graph to grade; None without one, and for silence where there is something to find."""
    graph = outcome.graph
    if graph is None or graph.entities or graph.relations:
        return graph
    return None if record.graph.entities or record.graph.relations else graph


def _num_obedient(graph: Graph, record: Record) -> int:
    entity_types = {exact_form(name) for name in record.entity_types}
    relation_types = {exact_form(name) for name in record.relation_types}
    num_obedient = 0
    ids: set[int] = set()
    seen: set[tuple[str, ...]] = set()
    texts: set[str] = set()
    for entity, key in zip(graph.entities, entity_keys(graph), strict=True):
        text, type_ = key
        num_obedient += (
            type_ in entity_types and entity.id not in ids and key not in seen and text != ""
        )
        ids.add(entity.id)
        seen.add(key)
        texts.add(text)
    for key in relation_keys(graph):
        head, tail, type_ = key
        num_obedient += (
            type_ in relation_types and head in texts and tail in texts and key not in seen
        )
        seen.add(key)
    return num_obedient


PARTS: dict[str, Part] = {
    "format": format_part,
    "json": json_part,
    "schema": schema_part,
    "grounding": grounding_part,
    "f1_entities": f1_entities_part,
    "f1_relations": f1_relations_part,
    "soft_entities": soft_entities_part,
    "soft_relations": soft_relations_part,
}


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """How much each part weighs: the total is their weighted sum.

    Raises ValueError for an unknown part, or a weight that is not a finite number above 0.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError(f"a reward needs at least one part of {sorted(PARTS)}, found none")
        for name, weight in self.weights.items():
            if name not in PARTS:
                near = get_close_matches(name, PARTS, n=1) or sorted(PARTS)
                raise ValueError(f"unknown reward part {name!r}; use {near}")
            if not (isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {name} must be finite and above 0, found {weight}")


PRESETS: dict[str, RewardSpec] = {
    # F1 decides; the rest breaks ties among answers that F1 cannot tell apart yet.
    "default": RewardSpec(
        {
            "f1_entities": 1.0,
            "f1_relations": 1.0,
            "soft_entities": 0.25,
            "soft_relations": 0.25,
            "json": 0.1,
            "schema": 0.1,
            "grounding": 0.1,
            "format": 0.1,
        }
    ),
    "f1": RewardSpec({"f1_entities": 1.0, "f1_relations": 1.0}),
    # Ten parts F1 to one part schema: the weighing of ReasoningNER (AAAI 2026).
    "f1_schema": RewardSpec({"f1_entities": 5.0, "f1_relations": 5.0, "schema": 1.0}),
}


def preset(name: str) -> RewardSpec:
    """The preset of this name. Raises ValueError with the names there are."""
    if name not in PRESETS:
        raise ValueError(f"unknown reward preset {name!r}; use one of {sorted(PRESETS)}")
    return PRESETS[name]


def score_completion(
    text: str, record: Record, spec: RewardSpec, *, thinking: bool = False
) -> Reward:
    """Grade one completion. The format part is left out unless `thinking`.

    Tagged "invalid_output" when no graph was found (every part is 0.0), else "score". Raises
    whatever a part raises, and ValueError for a part outside [0, 1].
    """
    outcome = parse_completion(text, thinking=thinking)
    parts = {
        name: PARTS[name](outcome, record, thinking)
        for name in spec.weights
        if thinking or name != "format"
    }
    for name, value in parts.items():
        if not 0.0 <= value <= 1.0:  # NaN fails this too
            raise ValueError(f"the reward part {name} must lie in [0, 1], found {value}")
    counts = score_graph(record.graph, outcome.graph)
    return Reward(
        total=sum(spec.weights[name] * value for name, value in parts.items()),
        parts=parts,
        tag="invalid_output" if isinstance(outcome, ParseFailure) else "score",
        parse=outcome.kind,
        entities=counts.entities.as_tuple(),
        relations=counts.relations.as_tuple(),
    )


def grade(text: str, record: Record, spec: RewardSpec, *, thinking: bool = False) -> Reward:
    """`score_completion` behind the boundary that keeps a run alive.

    A fault of the scorer is logged and comes back tagged "grader_error". Its total of 0.0 only
    keeps the field finite: consumers must mask or retry the completion, never train on it.
    """
    try:
        return score_completion(text, record, spec, thinking=thinking)
    except Exception:
        _logger.exception("the grader failed on a completion of %d characters", len(text))
        return Reward(
            total=0.0,
            parts={},
            tag="grader_error",
            parse="unknown",
            entities=(0, 0, 0),
            relations=(0, 0, 0),
        )
