"""Results of ablation runs -> a section of a page, in the order of the variants: not ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.quality.variants import DEFAULT, SFT
from benchmarks.result import place_of
from t2g_ray.evaluation.intervals import mean_paired_interval
from t2g_ray.graph.counts import GraphCounts

VariantResults = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Variant -> seed -> figures, with "by_record": the exact counts of each held-out record."""

HEAD = (
    "| variant | changes | mean F1 | by seed | entity F1 | relation F1 | JSON valid "
    "| against default, 95 % | wall-clock, s |\n|---|---|--:|---|--:|--:|--:|---|--:|"
)


def table(results: VariantResults) -> str:
    """One row a variant that has a result: means over its seeds."""
    rows = [_row(name, results) for name, by_seed in results.items() if by_seed]
    return "\n".join([HEAD, *rows]) + "\n"


def _row(name: str, results: VariantResults) -> str:
    runs = results[name]
    first = next(iter(runs.values()))
    changes = "SFT goes on as long" if name == SFT else " ".join(first["made_by"]["changes"])
    each = [mean_f1(run) for run in runs.values()]
    means = [
        fmean(run[key] for run in runs.values())
        for key in ("f1/entities", "f1/relations", "json_valid_rate")
    ]
    cells = [
        name,
        f"`{changes}`" if changes and name != SFT else changes,
        f"{fmean(each):.3f}",
        ", ".join(f"{value:.3f}" for value in each),
        *(f"{value:.3f}" for value in means),
        "" if name == DEFAULT else _difference(runs, results[DEFAULT]),
        f"{fmean(run['wall_s'] for run in runs.values()):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _difference(
    runs: Mapping[int, Mapping[str, Any]], default: Mapping[int, Mapping[str, Any]]
) -> str:
    """Mean over the seeds that both have; paired over records."""
    seeds = [seed for seed in runs if seed in default]
    if not seeds:
        return ""
    change = fmean(mean_f1(runs[seed]) - mean_f1(default[seed]) for seed in seeds)
    pairs = [(_counts(default[seed]), _counts(runs[seed])) for seed in seeds]
    low, high = mean_paired_interval(pairs, seed=0)["f1/mean"]
    return f"{change:+.3f} [{low:+.3f}, {high:+.3f}]"


def mean_f1(run: Mapping[str, Any]) -> float:
    """Mean of entity and relation F1."""
    return fmean((float(run["f1/entities"]), float(run["f1/relations"])))


def _counts(run: Mapping[str, Any]) -> list[GraphCounts]:
    return [GraphCounts.from_row(row) for row in run["by_record"]]


def section(results: VariantResults, failed: Sequence[str], command: str) -> str:
    """The table with what is in it and what made it."""
    made_by = next(iter(results[DEFAULT].values()))["made_by"]
    failures = "\n".join(
        ["", "Failed:", "", *(f"- {line}" for line in failed), ""] if failed else []
    )
    return f"""Each variant trains {made_by["steps"]} GRPO steps from the SFT policy of its seed,
with the settings of `configs/demo_grpo.yaml` and the changes named. Greedy decoding on the same
{made_by["records"]} held-out records; F1 is exact and micro, "mean" is that of entity and relation
F1. The interval is that of the mean difference over seeds, by a bootstrap over records that draws
the same records for both sides; it says nothing about seeds that were not run. Wall-clock is that
of the training loop, start-up and evaluation left out.

{table(results)}{failures}
Made by `{command}`, code {made_by["code"]}. Measured on: {place_of(made_by)}.
"""
