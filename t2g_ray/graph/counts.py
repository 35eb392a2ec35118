"""Gold and predicted graph -> counts that add up -> precision, recall and F1.

An entity is the key (text, type), a relation (head, tail, type), compared as tuples, so that no
separator can make two of them equal. Keys are multisets: a copy of a right answer is one more
false positive. Exact keys are trimmed and in Unicode NFC; relaxed keys also ignore case, articles
and surrounding punctuation; `matching` gives part of a point for a near miss.

Invariant: counts of any set of records are the sum of the counts of its parts, so micro totals do
not depend on how the records were cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from t2g_ray.graph.forms import exact_form, relaxed_form
from t2g_ray.graph.graph import Graph

MatchMode = Literal["exact", "relaxed"]
ItemKey = tuple[str, ...]  # the type comes last


@dataclass(frozen=True, slots=True)
class Counts:
    """True positives, false positives and false negatives. They add."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """tp / (tp + fp); with nothing predicted 1.0 if nothing was to find, else 0.0."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else float(self.fn == 0)

    @property
    def recall(self) -> float:
        """tp / (tp + fn); with nothing to find 1.0 if nothing was predicted, else 0.0."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else float(self.fp == 0)

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn); 1.0 when there was nothing to find and nothing was found."""
        num_errors = self.fp + self.fn
        return 2 * self.tp / (2 * self.tp + num_errors) if self.tp or num_errors else 1.0

    def as_tuple(self) -> tuple[int, int, int]:
        """(tp, fp, fn)."""
        return self.tp, self.fp, self.fn


@dataclass(frozen=True, slots=True)
class GraphCounts:
    """Counts of entities and of relations. They add: `sum(all_counts, GraphCounts())`."""

    entities: Counts = Counts()
    relations: Counts = Counts()

    def __add__(self, other: GraphCounts) -> GraphCounts:
        return GraphCounts(self.entities + other.entities, self.relations + other.relations)

    def as_row(self) -> tuple[int, ...]:
        """(tp, fp, fn) of the entities, then of the relations: `by_record` in files."""
        return (*self.entities.as_tuple(), *self.relations.as_tuple())

    @classmethod
    def from_row(cls, row: Sequence[int]) -> GraphCounts:
        """The counts that `as_row` was taken from."""
        return cls(Counts(*row[:3]), Counts(*row[3:]))


@dataclass(frozen=True, slots=True)
class TypeCounts:
    """Counts of each entity type and each relation type. They add."""

    entities: Mapping[str, Counts]
    relations: Mapping[str, Counts]

    def __add__(self, other: TypeCounts) -> TypeCounts:
        return TypeCounts(
            _add_types(self.entities, other.entities), _add_types(self.relations, other.relations)
        )


def score_graph(gold: Graph, predicted: Graph | None, mode: MatchMode = "exact") -> GraphCounts:
    """Counts of one record. No graph at all (None: a failed parse) misses all gold."""
    return GraphCounts(
        count_entities(gold, predicted, mode), count_relations(gold, predicted, mode)
    )


def count_entities(gold: Graph, predicted: Graph | None, mode: MatchMode = "exact") -> Counts:
    """The entity half of `score_graph`."""
    found = entity_keys(predicted, mode) if predicted is not None else []
    return _count(entity_keys(gold, mode), found)


def count_relations(gold: Graph, predicted: Graph | None, mode: MatchMode = "exact") -> Counts:
    """The relation half of `score_graph`."""
    found = relation_keys(predicted, mode) if predicted is not None else []
    return _count(relation_keys(gold, mode), found)


def count_strict_relations(gold: Graph, predicted: Graph | None) -> Counts:
    """`count_relations`, exact, where the types of both ends must be right too.

    An end has the types of all entities with its text, none where it is no listed entity.
    """
    found = _strict_keys(predicted) if predicted is not None else []
    return _count(_strict_keys(gold), found)


def score_types(gold: Graph, predicted: Graph | None, mode: MatchMode = "exact") -> TypeCounts:
    """Counts of one record by type: a wrong item counts against the type it claims."""
    found = predicted if predicted is not None else Graph((), ())
    return TypeCounts(
        _count_types(entity_keys(gold, mode), entity_keys(found, mode)),
        _count_types(relation_keys(gold, mode), relation_keys(found, mode)),
    )


def micro(by_type: Mapping[str, Counts]) -> Counts:
    """Total over types."""
    return sum(by_type.values(), Counts())


def macro_f1(by_type: Mapping[str, Counts]) -> float:
    """Mean F1 over types; 1.0 without any type (nothing to find, nothing found)."""
    return sum(counts.f1 for counts in by_type.values()) / len(by_type) if by_type else 1.0


def entity_keys(graph: Graph, mode: MatchMode = "exact") -> list[ItemKey]:
    """(text, type) of every entity, compared as `mode` says."""
    form = _FORMS[mode]
    return [(form(entity.text), form(entity.type)) for entity in graph.entities]


def relation_keys(graph: Graph, mode: MatchMode = "exact") -> list[ItemKey]:
    """(head, tail, type) of every relation, compared as `mode` says."""
    form = _FORMS[mode]
    return [(form(r.head), form(r.tail), form(r.type)) for r in graph.relations]


def _strict_keys(graph: Graph) -> list[ItemKey]:
    types: dict[str, list[str]] = {}
    for text, type_ in dict.fromkeys(entity_keys(graph)):
        types.setdefault(text, []).append(type_)
    # Types of an end sorted and behind its text; their number keeps two ends apart.
    ends = {text: (text, str(len(found)), *sorted(found)) for text, found in types.items()}
    return [
        (*ends.get(head, (head, "0")), *ends.get(tail, (tail, "0")), type_)
        for head, tail, type_ in relation_keys(graph)
    ]


_FORMS: dict[MatchMode, Callable[[str], str]] = {"exact": exact_form, "relaxed": relaxed_form}


def _count(gold: list[ItemKey], predicted: list[ItemKey]) -> Counts:
    left = Counter(gold)
    tp = 0
    for key in predicted:
        if left[key] > 0:
            left[key] -= 1
            tp += 1
    return Counts(tp, len(predicted) - tp, len(gold) - tp)


def _count_types(gold: list[ItemKey], predicted: list[ItemKey]) -> dict[str, Counts]:
    types = dict.fromkeys(key[-1] for key in gold + predicted)
    return {
        name: _count([k for k in gold if k[-1] == name], [k for k in predicted if k[-1] == name])
        for name in types
    }


def _add_types(left: Mapping[str, Counts], right: Mapping[str, Counts]) -> dict[str, Counts]:
    return {
        name: left.get(name, Counts()) + right.get(name, Counts())
        for name in dict.fromkeys([*left, *right])
    }
