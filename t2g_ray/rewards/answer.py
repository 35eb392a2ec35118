"""Record and completion text -> what the reward parts look at, each computed once.

A `Gold` serves all completions of a prompt, an `Answer` all parts of one completion.
"""

from __future__ import annotations

from dataclasses import dataclass

from t2g_ray.graph import Graph
from t2g_ray.graph.counts import ItemKey, entity_keys, relation_keys
from t2g_ray.graph.forms import exact_form
from t2g_ray.graph.matching import Match, match, near_credit
from t2g_ray.graph.parsing import Parsed, ParseFailure, parse_completion
from t2g_ray.types import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A record with its keys, wanted types and text in the form in which they are compared."""

    entities: list[ItemKey]
    relations: list[ItemKey]
    entity_types: frozenset[str]
    relation_types: frozenset[str]
    text: str

    @classmethod
    def of(cls, record: Record) -> Gold:
        """Prepare a record."""
        return cls(
            entities=entity_keys(record.graph),
            relations=relation_keys(record.graph),
            entity_types=frozenset(map(exact_form, record.entity_types)),
            relation_types=frozenset(map(exact_form, record.relation_types)),
            text=exact_form(record.text),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A parsed completion beside its gold. Without a graph there are no predicted keys.

    `graph` is the one to grade: None without a graph, and for an empty one where there is something
    to find. `near` is the credit for near misses of either kind, 0 where it was not asked for;
    `num_tokens` the completion's length, 0 where it is not known.
    """

    outcome: Parsed | ParseFailure
    gold: Gold
    graph: Graph | None
    entities: list[ItemKey]
    relations: list[ItemKey]
    entity_match: Match
    relation_match: Match
    near: tuple[float, float]
    num_tokens: int


def read_answer(
    text: str, gold: Gold, *, thinking: bool, num_tokens: int = 0, with_near: bool = True
) -> Answer:
    """Parse a completion and match it with the gold graph."""
    outcome = parse_completion(text, thinking=thinking)
    graph = outcome.graph
    entities = entity_keys(graph) if graph is not None else []
    relations = relation_keys(graph) if graph is not None else []
    matches = match(gold.entities, entities), match(gold.relations, relations)
    is_silent = not (entities or relations)
    return Answer(
        outcome=outcome,
        gold=gold,
        graph=None if is_silent and (gold.entities or gold.relations) else graph,
        entities=entities,
        relations=relations,
        entity_match=matches[0],
        relation_match=matches[1],
        near=(near_credit(matches[0]), near_credit(matches[1])) if with_near else (0.0, 0.0),
        num_tokens=num_tokens,
    )
