"""Answers of a teacher -> one graph a text, with how far its samples agree.

Invariant: a graph that leaves here is canonical: ids count from 0 and nothing is in it twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from t2g_ray.data.generate.teachers.teacher import TeacherOutcome
from t2g_ray.graph import Entity, Graph
from t2g_ray.graph.constrained import close_graph
from t2g_ray.graph.counts import score_graph
from t2g_ray.graph.parsing import Parsed, parse_completion
from t2g_ray.types import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The graph of one text. `agreement` is the mean pairwise F1 of all samples, None for one."""

    graph: Graph
    agreement: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGraph:
    """Why no sample of a text is a graph: the reason of the first one."""

    reason: str
    message: str


def choose_graph(outcomes: Sequence[TeacherOutcome]) -> Chosen | NoGraph:
    """The sample most similar to the others, the earliest of equals."""
    graphs: list[Graph] = []
    failures: list[NoGraph] = []
    for outcome in outcomes:
        found = _graph_of(outcome)
        if isinstance(found, Graph):
            graphs.append(found)
        else:
            failures.append(found)
    if not graphs:
        return failures[0]
    likeness = [0.0] * len(graphs)
    for one, other in combinations(range(len(graphs)), 2):
        f1 = graph_f1(graphs[one], graphs[other])
        likeness[one] += f1
        likeness[other] += f1
    best = max(range(len(graphs)), key=lambda index: (likeness[index], -index))
    # Both counts contain each pair twice; a sample without a graph agrees with none.
    num_pairs = len(outcomes) * (len(outcomes) - 1)
    return Chosen(graph=graphs[best], agreement=sum(likeness) / num_pairs if num_pairs else None)


def graph_f1(one: Graph, other: Graph) -> float:
    """Exact F1 over entities and relations together; 1 for two empty graphs."""
    counts = score_graph(one, other)
    return (counts.entities + counts.relations).f1


def _graph_of(outcome: TeacherOutcome) -> Graph | NoGraph:
    if outcome.reason:
        return NoGraph(reason=outcome.reason, message=outcome.message)
    parsed = parse_completion(close_graph(outcome.text) if outcome.is_cut else outcome.text)
    if isinstance(parsed, Parsed):
        return tidy(parsed.graph)
    return NoGraph(reason=f"no_graph_{parsed.kind}", message=parsed.message)


def tidy(graph: Graph) -> Graph:
    """Each entity and relation once, in the order of their first mention, ids from 0."""
    entities = dict.fromkeys((entity.text, entity.type) for entity in graph.entities)
    return Graph(
        entities=tuple(Entity(id_, *key) for id_, key in enumerate(entities)),
        relations=tuple(dict.fromkeys(graph.relations)),
    )


def repair(record: Record) -> Record:
    """Without entities that do not occur in the text, types that are not asked for, and relations
    that lose an end, or may lose it: of entities of one text, the relation does not say which."""
    entities = [
        entity
        for entity in record.graph.entities
        if entity.text.strip() and entity.text in record.text and entity.type in record.entity_types
    ]
    removed = {entity.text for entity in record.graph.entities if entity not in entities}
    texts = {entity.text for entity in entities} - removed
    relations = tuple(
        relation
        for relation in record.graph.relations
        if relation.head in texts
        and relation.tail in texts
        and relation.type in record.relation_types
    )
    return replace(record, graph=tidy(Graph(tuple(entities), relations)))
