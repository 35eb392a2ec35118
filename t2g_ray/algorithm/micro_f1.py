"""Counts of a whole batch -> what each completion adds to the batch's micro F1.

With F of a record as its reward, a record without gold relations pays 1 for writing none and 0 for
one relation too many, so a policy whose relations are seldom right earns most by writing none,
while micro F1 falls to 0. No price that is fixed beforehand mends this. Here an item costs what it
costs micro F1: half of the F that the rest of the batch has, and a right one pays 1.

Invariant: given the rest of the batch, a value is linear in the completion's own counts, so its
expectation orders policies as micro F1 does around that of the batch: an item pays exactly if its
chance to be right is above half of F. That chance is above it for a policy's own items on average
(F / 2 = pr / (p + r) < p), so silence never pays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean

from t2g_ray.config.rewards import F1_PARTS, RewardSpec
from t2g_ray.graph.counts import Counts, GraphCounts
from t2g_ray.types import GroupSummary

Near = tuple[float, float]


def added_f1(
    counts: Sequence[Counts], near: Sequence[float], has_graph: Sequence[bool], *, beta: float
) -> list[float]:
    """One value for each completion [N]; their mean is near the micro F of the batch.

    Derivation: with f = (1 + b^2) (tp + near), s = b^2 gold + predicted, and sums S of s and F =
    sum f / S, leaving out completion i changes F by (f_i - F' s_i) / S, where F' is the F of the
    others. A value is F + (f_i - F' s_i) / (mean s of the others, at least 1).

    A completion without a graph counts as if it had written one item more than the gold has, all
    of them wrong, so that failing is not the silent way out.
    """
    weight = beta * beta
    found = [(1 + weight) * (c.tp + credit) for c, credit in zip(counts, near, strict=True)]
    sizes = [weight * (c.tp + c.fn) + c.tp + c.fp for c in counts]
    all_found, all_sizes = sum(found), sum(sizes)
    level = all_found / all_sizes if all_sizes else 1.0
    if len(counts) == 1:
        return [level]
    values = []
    for own, parsed, f, s in zip(counts, has_graph, found, sizes, strict=True):
        others = all_sizes - s
        price = (all_found - f) / others if others else 1.0
        cost = s if parsed else (1 + weight) * (own.tp + own.fn) + 1
        values.append(level + (f - price * cost) / max(1.0, others / (len(counts) - 1)))
    return values


def f1_values(
    spec: RewardSpec,
    counts: Sequence[GraphCounts],
    near: Sequence[Near],
    has_graph: Sequence[bool],
) -> dict[str, list[float]]:
    """`added_f1` [N] for each F1 part of the reward, by name."""
    values = {}
    for name in spec.weights.keys() & F1_PARTS.keys():
        side, is_soft = F1_PARTS[name]
        values[name] = added_f1(
            [getattr(one, side) for one in counts],
            [pair[side == "relations"] if is_soft else 0.0 for pair in near],
            has_graph,
            beta=spec.shaping.beta,
        )
    return values


def price_batch(summaries: Sequence[GroupSummary], spec: RewardSpec) -> list[GroupSummary]:
    """The same groups with the F1 parts of their rewards priced by the batch that they are.

    Completions whose grader failed are left out. With `level` record nothing changes.
    """
    if spec.level == "record" or not any(any(s.is_valid) for s in summaries):
        return list(summaries)
    values = f1_values(
        spec,
        list(chain.from_iterable(s.graded(s.counts) for s in summaries)),
        list(chain.from_iterable(s.graded(s.near) for s in summaries)),
        list(chain.from_iterable(s.graded(s.has_graph) for s in summaries)),
    )
    streams = {name: iter(of_part) for name, of_part in values.items()}
    return [
        _priced(s, spec, {name: _spread(s, stream) for name, stream in streams.items()})
        for s in summaries
    ]


def _spread(summary: GroupSummary, stream: Iterator[float]) -> list[float]:
    """The next values of the stream, one for each completion; 0 where its grader failed."""
    return [next(stream) if ok else 0.0 for ok in summary.is_valid]


def _priced(
    summary: GroupSummary, spec: RewardSpec, values: Mapping[str, Sequence[float]]
) -> GroupSummary:
    rewards = tuple(
        base + sum(spec.weights[name] * of_part[i] for name, of_part in values.items())
        for i, base in enumerate(summary.base)
    )
    means = {
        name: fmean(summary.graded(of_part)) for name, of_part in values.items() if summary.parts
    }
    return replace(summary, rewards=rewards, parts={**summary.parts, **means})
