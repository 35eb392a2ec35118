"""Several runs -> the result of each, how they differ, and their change from the first.

Invariant: nothing is ranked. Two runs are compared record by record only where both evaluated the
same held-out records, which the gold counts of all records in turn must show.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from t2g_ray.evaluation.intervals import paired_interval
from t2g_ray.graph.counts import GraphCounts
from t2g_ray.report.load import RunData, of_heldout
from t2g_ray.report.plots.curves import Lines, finite, running_mean

WINDOW_STEPS = 10
"""Figures of training are means over this many steps: a single step is noise."""
HELD_OUT = ("f1/mean", "f1/entities", "f1/relations", "json_valid_rate", "loss")
TRAINING = ("reward/mean", "f1/entities", "f1/relations")
FALLING = ("loss",)
"""Figures whose best value is the lowest."""
OWN_KEYS = ("run_dir", "resume")
"""Settings that say where a run is stored, not what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One figure over the course of a run."""

    start: float
    end: float
    best: float
    best_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """The result of one run. `tokens_per_s` counts prompts and what was trained, all waiting
    included; `change` is that of the last evaluation from the first run's."""

    steps: int
    wall_s: float
    generated_tokens: int
    trained_tokens: int
    tokens_per_s: float
    held_out: Mapping[str, Course]
    training: Mapping[str, Course]
    change: Mapping[str, Mapping[str, Any]]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The shortest of folder name and path below the common parent that tells all runs apart.

    Raises ValueError when a run is given twice.
    """
    whole = [path.resolve() for path in paths]
    if len(set(whole)) < len(whole):
        raise ValueError(f"each run must be given once, found {', '.join(map(str, paths))}")
    names = [path.name for path in whole]
    if len(set(names)) == len(names):
        return names
    common = Path(os.path.commonpath([path.parent for path in whole]))
    return [path.relative_to(common).as_posix() for path in whole]


def figures_of(run: RunData, first: RunData) -> RunFigures:
    """The figures of a run beside those of the first one."""
    evals, lines = held_out_lines(run), run.metrics
    wall_s = max(_seconds_by_step(lines).values(), default=0.0)
    trained = _total(lines, "tokens/trained")
    return RunFigures(
        steps=int(lines[-1]["step"] or 0) if lines else 0,
        wall_s=wall_s,
        generated_tokens=_total(lines, "tokens/generated"),
        trained_tokens=trained,
        tokens_per_s=(_total(lines, "tokens/prompt") + trained) / wall_s if wall_s else 0.0,
        held_out=_courses(evals, HELD_OUT, window=1),
        training=_courses(lines, TRAINING, window=WINDOW_STEPS),
        change={} if run is first else _change(held_out_lines(first), evals),
    )


def held_out_lines(run: RunData) -> list[dict[str, Any]]:
    """Evaluations on the held-out records, with the mean of both F1 where there are any."""
    lines = of_heldout(run.evals)
    return [
        {**line, "f1/mean": (line["f1/entities"] + line["f1/relations"]) / 2}
        if {"f1/entities", "f1/relations"} <= line.keys()
        else line
        for line in lines
    ]


def with_seconds(lines: Lines, run: RunData) -> list[dict[str, Any]]:
    """The lines with "seconds": training up to the end of their step."""
    clock = _seconds_by_step(run.metrics)
    return [{**line, "seconds": clock.get(line["step"], 0.0)} for line in lines]


def _seconds_by_step(metrics: Lines) -> dict[int, float]:
    """In order of steps. The clock of a resumed run may start again at 0; this one goes on."""
    total, last, seconds = 0.0, 0.0, {}
    for line in metrics:
        now = line.get("time_s") or last
        total += now - last if now >= last else now
        last = now
        seconds[line["step"]] = total
    return seconds


def _total(metrics: Lines, key: str) -> int:
    return int(sum(line.get(key) or 0 for line in metrics))


def _courses(lines: Lines, keys: Sequence[str], *, window: int) -> dict[str, Course]:
    courses = {}
    for key in keys:
        pairs = finite(lines, key)
        if pairs:
            width = min(window, len(pairs))
            values = running_mean([value for _, value in pairs], width)[width - 1 :]
            best = (min if key in FALLING else max)(values)
            courses[key] = Course(
                start=values[0],
                end=values[-1],
                best=best,
                best_step=int(pairs[values.index(best) + width - 1][0]),
            )
    return courses


def _change(first: Lines, evals: Lines) -> dict[str, dict[str, Any]]:
    """Paired differences of the last evaluations; empty where the records are not the same."""
    sides = [
        [GraphCounts.from_row(row) for row in lines[-1].get("by_record", ())] if lines else []
        for lines in (first, evals)
    ]
    if not sides[0] or _gold(sides[0]) != _gold(sides[1]):
        return {}
    return {
        key: {"difference": evals[-1][key] - first[-1][key], "interval": ends}
        for key, ends in paired_interval(*sides, seed=0).items()
    }


def _gold(counts: Sequence[GraphCounts]) -> list[tuple[int, int]]:
    """How many gold items each record has."""
    return [
        (one.entities.tp + one.entities.fn, one.relations.tp + one.relations.fn) for one in counts
    ]


def config_differences(runs: Sequence[RunData]) -> dict[str, list[Any]]:
    """Key -> a value for each run, for the keys that are not the same in all; None: not there."""
    flat = [_flat(yaml.safe_load(run.config_text) or {}) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one if key not in OWN_KEYS)
    rows = {key: [one.get(key) for one in flat] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def summary(runs: Sequence[RunData]) -> dict[str, Any]:
    """The comparison as plain data, for programs."""
    return {
        "runs": {run.name: asdict(figures_of(run, runs[0])) for run in runs},
        "config": {
            key: dict(zip([run.name for run in runs], row, strict=True))
            for key, row in config_differences(runs).items()
        },
    }
