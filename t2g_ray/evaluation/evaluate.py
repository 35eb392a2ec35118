"""Held-out records and completions -> exact and relaxed scores, by type, with intervals.

This path shares parsing and counting with nothing that trains: a reward can be shaped, these
figures cannot. Invariant: all F1 is micro over records, from counts that add up; a completion
without a graph, and a prompt that was too long to ask, miss all their gold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2g_ray.evaluation.intervals import Interval, bootstrap_interval
from t2g_ray.graph.counts import (
    Counts,
    GraphCounts,
    TypeCounts,
    count_strict_relations,
    macro_f1,
    score_graph,
    score_types,
)
from t2g_ray.graph.parsing import parse_completion
from t2g_ray.types import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """Scores of one set of records. `by_record` keeps the exact counts that intervals need, and
    `strict_relations` are those whose ends have the right types too.

    `mean_tokens` is the mean length of a completion; None when the lengths were not given.
    """

    exact: GraphCounts
    relaxed: GraphCounts
    strict_relations: Counts
    types: TypeCounts
    by_record: tuple[GraphCounts, ...]
    parse_kinds: Mapping[str, int]
    mean_tokens: float | None

    @property
    def num_records(self) -> int:
        """Records evaluated."""
        return len(self.by_record)

    @property
    def json_valid_rate(self) -> float:
        """Share of completions that hold a graph."""
        return self.parse_kinds.get("ok", 0) / self.num_records

    def figures(self) -> dict[str, float]:
        """The flat figures, under the key names of metrics.jsonl, evals.jsonl and `t2g score`."""
        both = {
            "entities": (self.exact.entities, self.relaxed.entities, self.types.entities),
            "relations": (self.exact.relations, self.relaxed.relations, self.types.relations),
        }
        figures: dict[str, float] = {"records": self.num_records}
        for name, (exact, relaxed, by_type) in both.items():
            figures[f"f1/{name}"] = exact.f1
            figures[f"f1_relaxed/{name}"] = relaxed.f1
            figures[f"f1_macro/{name}"] = macro_f1(by_type)
            figures[f"precision/{name}"] = exact.precision
            figures[f"recall/{name}"] = exact.recall
        figures["f1_strict/relations"] = self.strict_relations.f1
        figures["json_valid_rate"] = self.json_valid_rate
        if self.mean_tokens is not None:
            figures["completion_length/mean"] = self.mean_tokens
        return figures

    def line(self, step: int, version: int, split: str) -> dict[str, Any]:
        """The line of evals.jsonl."""
        return {"step": step, "policy_version": version, "split": split, **self.figures()}

    def details(self, *, seed: int) -> dict[str, Any]:
        """What `t2g eval --json` says beside the figures."""
        return {
            "parse": dict(self.parse_kinds),
            "interval": self.intervals(seed=seed),
            "types": self.type_table(),
        }

    def record_lines(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """A line a record: its completion, and (tp, fp, fn) of entities and relations, exact."""
        return [
            {
                "index": index,
                "completion": text,
                "entities": counts.entities.as_tuple(),
                "relations": counts.relations.as_tuple(),
            }
            for index, (text, counts) in enumerate(zip(texts, self.by_record, strict=True))
        ]

    def intervals(self, *, seed: int, samples: int = 2000) -> dict[str, Interval]:
        """`bootstrap_interval` of this result."""
        return bootstrap_interval(self.by_record, seed=seed, samples=samples)

    def type_table(self) -> dict[str, dict[str, dict[str, float]]]:
        """{"entities" | "relations": {type: precision, recall, f1, tp, fp, fn}}, exact."""
        return {
            "entities": {name: _row(counts) for name, counts in self.types.entities.items()},
            "relations": {name: _row(counts) for name, counts in self.types.relations.items()},
        }


def evaluate_texts(
    records: Sequence[Record],
    texts: Sequence[str],
    *,
    thinking: bool,
    lengths: Sequence[int] | None = None,
) -> EvalResult:
    """Score one completion text for each record; `lengths` counts their tokens.

    Raises ValueError when the numbers of records, texts and lengths differ or are 0.
    """
    if not records or len(records) != len(texts) or len(lengths or texts) != len(texts):
        raise ValueError(
            "evaluation needs one text (and length) for each of at least one record, found "
            f"{len(records)} records, {len(texts)} texts and "
            f"{'no' if lengths is None else len(lengths)} lengths"
        )
    parsed = [parse_completion(text, thinking=thinking) for text in texts]
    pairs = [(record.graph, answer.graph) for record, answer in zip(records, parsed, strict=True)]
    by_record = tuple(score_graph(gold, predicted) for gold, predicted in pairs)
    relaxed = (score_graph(gold, predicted, "relaxed") for gold, predicted in pairs)
    strict = (count_strict_relations(gold, predicted) for gold, predicted in pairs)
    types = (score_types(gold, predicted) for gold, predicted in pairs)
    return EvalResult(
        exact=sum(by_record, GraphCounts()),
        relaxed=sum(relaxed, GraphCounts()),
        strict_relations=sum(strict, Counts()),
        types=sum(types, TypeCounts({}, {})),
        by_record=by_record,
        parse_kinds=Counter(answer.kind for answer in parsed),
        mean_tokens=sum(lengths) / len(lengths) if lengths else None,
    )


def _row(counts: Counts) -> dict[str, float]:
    return {
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "tp": counts.tp,
        "fp": counts.fp,
        "fn": counts.fn,
    }
