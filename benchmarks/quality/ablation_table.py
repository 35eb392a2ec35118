"""Results of ablation runs -> what is published of them, and a section of a page from that.

Invariant: variants stand in their own order, not ranked, and only those that have a result of every
seed of the default: means over other seeds could not be compared.
"""

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

COLUMNS = ("f1/entities", "f1/relations", "json_valid_rate")
HEAD = (
    "| variant | changes | mean F1 | by seed | entity F1 | relation F1 | JSON valid "
    "| against default, 95 % | wall-clock, s |\n|---|---|--:|---|--:|--:|--:|---|--:|"
)


def published(results: VariantResults, failed: Sequence[str], command: str) -> dict[str, Any]:
    """Everything that the section says; the figures have a value for each seed."""
    seeds = list(results[DEFAULT])
    whole = {name: runs for name, runs in results.items() if runs.keys() == set(seeds)}
    parts = [name for name, runs in results.items() if runs and name not in whole]
    return {
        "command": command,
        "made_by": next(iter(results[DEFAULT].values()))["made_by"],
        "failed": [*failed, *(f"{name}: not all of seeds {seeds}" for name in parts)],
        "variants": {name: _figures(name, runs, results[DEFAULT]) for name, runs in whole.items()},
    }


def _figures(
    name: str, runs: Mapping[int, Mapping[str, Any]], default: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "changes": next(iter(runs.values()))["made_by"]["changes"],
        **{key: [runs[seed][key] for seed in default] for key in (*COLUMNS, "wall_s")},
    }
    if name != DEFAULT:
        pairs = [(_counts(default[seed]), _counts(runs[seed])) for seed in default]
        figures["interval"] = list(mean_paired_interval(pairs, seed=0)["f1/mean"])
    return figures


def _counts(run: Mapping[str, Any]) -> list[GraphCounts]:
    return [GraphCounts.from_row(row) for row in run["by_record"]]


def mean_f1(run: Mapping[str, Any]) -> float:
    """Mean of entity and relation F1."""
    return fmean((float(run["f1/entities"]), float(run["f1/relations"])))


def table(document: Mapping[str, Any]) -> str:
    """One row a variant: means over its seeds."""
    variants = document["variants"]
    rows = [_row(name, figures, variants[DEFAULT]) for name, figures in variants.items()]
    return "\n".join([HEAD, *rows]) + "\n"


def _row(name: str, figures: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    changes = "SFT goes on as long" if name == SFT else " ".join(figures["changes"])
    each, rival = _means(figures), _means(default)
    against = ""
    if name != DEFAULT:
        low, high = figures["interval"]
        change = fmean(a - b for a, b in zip(each, rival, strict=True))
        against = f"{change:+.3f} [{low:+.3f}, {high:+.3f}]"
    cells = [
        name,
        f"`{changes}`" if changes and name != SFT else changes,
        f"{fmean(each):.3f}",
        ", ".join(f"{value:.3f}" for value in each),
        *(f"{fmean(figures[key]):.3f}" for key in COLUMNS),
        against,
        f"{fmean(figures['wall_s']):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _means(figures: Mapping[str, Any]) -> list[float]:
    """Mean F1 of each seed."""
    pairs = zip(figures["f1/entities"], figures["f1/relations"], strict=True)
    return [fmean(pair) for pair in pairs]


def section(document: Mapping[str, Any]) -> str:
    """The table with what is in it and what made it."""
    made_by, failed = document["made_by"], document["failed"]
    failures = "\n".join(
        ["", "Failed:", "", *(f"- {line}" for line in failed), ""] if failed else []
    )
    return f"""Each variant trains {made_by["steps"]} GRPO steps from the SFT policy of its seed,
with the settings of `configs/demo_grpo.yaml` and the changes named. Greedy decoding on the same
{made_by["records"]} held-out records; F1 is exact and micro, "mean" is that of entity and relation
F1. The interval is that of the mean difference over seeds, by a bootstrap over records that draws
the same records for both sides; it says nothing about seeds that were not run. Wall-clock is that
of the training loop, start-up and evaluation left out.

{table(document)}{failures}
Made by `{document["command"]}`, code {made_by["code"]}. Measured on: {place_of(made_by)}.
Figures: `benchmarks/published/ablations.json`.
"""
