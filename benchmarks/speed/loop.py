"""Whole GRPO runs: wall-clock a step, how much of it is idle, and what asynchrony costs in quality.

Each mode is a complete run of the product. Modes take turns within a run of the benchmark. With
`fixed` lengths every completion goes on to the limit, so that speed does not depend on what the
policy happens to write.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.result import ResultRow, make_row, ratio_row
from t2g_ray.config import GrpoConfig
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import MetricsLine, read_metrics

WARM_UP_STEPS = 3
"""First steps of a run, which allocate and compile, and are left out of its figures."""

FIGURES = {
    "wall_s_per_step": "s",
    "generate_s_per_step": "s",
    "train_s_per_step": "s",
    "sync_s_per_step": "s",
    "step_over_max": "ratio",
    "learner_idle": "share",
    "samplers_idle": "share",
    "staleness": "versions",
    "tokens_per_s": "tokens/s",
}

MARKS = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the rise of F1 that both runs reach. At one mark alone, the noise of a single evaluation
decides when it is reached."""

Points = Sequence[tuple[float, float]]
"""(seconds of training, held-out F1), in order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopMode:
    """One way to run the loop."""

    max_staleness: int
    is_fixed: bool = False

    @property
    def name(self) -> str:
        """Example: "async_1", or "fixed/sync"."""
        kind = f"async_{self.max_staleness}" if self.max_staleness else "sync"
        return f"fixed/{kind}" if self.is_fixed else kind


def modes_of(staleness: Sequence[int], *, with_fixed: bool = True) -> list[LoopMode]:
    """The synchronous mode and one for each staleness, of natural and then of fixed lengths."""
    values, kinds = sorted({0, *staleness}), (False, True) if with_fixed else (False,)
    return [LoopMode(max_staleness=s, is_fixed=is_fixed) for is_fixed in kinds for s in values]


def run(
    config: GrpoConfig,
    *,
    runs: int,
    steps: int = 40,
    modes: Sequence[LoopMode] = tuple(modes_of((1, 2))),
    f1_steps: int = 150,
    f1_every: int = 10,
) -> list[ResultRow]:
    """Rows of all modes; `f1_steps` 0 leaves out the comparison at equal F1, which is of the
    largest staleness."""
    figures: dict[str, list[Mapping[str, float]]] = {mode.name: [] for mode in modes}
    for number in range(runs):
        for mode in modes:
            lines = throughput_run(config, mode, steps=steps, seed=config.seed + number)
            figures[mode.name].append(loop_figures(lines))
    rows = [
        make_row(f"{key}/{name}", [of_run[key] for of_run in of_runs], unit)
        for name, of_runs in figures.items()
        for key, unit in FIGURES.items()
    ]
    for mode in modes:
        if mode.max_staleness:
            rows.append(_speed_row(mode, figures))
    if f1_steps:
        most = max(mode.max_staleness for mode in modes)
        rows += _equal_f1_rows(config, most, runs=runs, steps=f1_steps, every=f1_every)
    return rows


def _speed_row(mode: LoopMode, figures: Mapping[str, Sequence[Mapping[str, float]]]) -> ResultRow:
    sync = LoopMode(max_staleness=0, is_fixed=mode.is_fixed)
    walls = {
        name: [of_run["wall_s_per_step"] for of_run in figures[name]]
        for name in (mode.name, sync.name)
    }
    return ratio_row(f"wall_over_sync/{mode.name}", walls[mode.name], walls[sync.name])


def throughput_run(
    config: GrpoConfig, mode: LoopMode, *, steps: int, seed: int
) -> list[MetricsLine]:
    """Lines of metrics of a run without evaluation, its first steps left out."""
    run_dir = _grpo(
        config,
        mode,
        {
            "steps": steps + WARM_UP_STEPS,
            "seed": seed,
            "data": {"heldout": "none"},
            "checkpoint": {"every": 0},
        },
    )
    return read_metrics(run_dir.metrics)[WARM_UP_STEPS:]


def loop_figures(lines: Sequence[MetricsLine]) -> dict[str, float]:
    """Means over the steps of a run; `step_over_max` is 1 where the longer side never waits."""

    def values(key: str) -> list[float]:
        return [line[key] or 0.0 for line in lines]

    walls, generate, train = (values(f"time/{key}_s") for key in ("step", "generate", "train"))
    longer = sum(max(pair) for pair in zip(generate, train, strict=True))
    return {
        "wall_s_per_step": fmean(walls),
        "generate_s_per_step": fmean(generate),
        "train_s_per_step": fmean(train),
        "sync_s_per_step": fmean(values("time/sync_s")),
        "step_over_max": sum(walls) / longer,
        "learner_idle": fmean(values("idle/learner")),
        "samplers_idle": fmean(values("idle/samplers")),
        "staleness": fmean(values("staleness/mean")),
        "tokens_per_s": sum(values("tokens/generated")) / sum(walls),
    }


def _equal_f1_rows(
    config: GrpoConfig, max_staleness: int, *, runs: int, steps: int, every: int
) -> list[ResultRow]:
    """Wall-clock to the same held-out F1, asynchronous over synchronous, a seed a run."""
    of_runs = []
    for number in range(runs):
        sync, asynchronous = (
            _learning_curve(config, LoopMode(max_staleness=s), steps, every, config.seed + number)
            for s in (0, max_staleness)
        )
        of_runs.append(wall_ratios_at_equal_f1(asynchronous, sync))
    return [
        make_row("async_wall_over_sync_wall_at_equal_f1", [median(r) for r in of_runs], "ratio"),
        make_row("async_wall_over_sync_wall_at_best_f1", [r[-1] for r in of_runs], "ratio"),
    ]


def wall_ratios_at_equal_f1(above: Points, below: Points) -> list[float]:
    """Seconds of `above` over those of `below` to each of MARKS.

    Raises ValueError when one of them never rose.
    """
    start = max(above[0][1], below[0][1])
    best = min(max(f1 for _, f1 in curve) for curve in (above, below))
    if best <= start:
        raise ValueError(
            f"both runs must raise held-out F1 above {start:.4f}, found a best of "
            f"{best:.4f}; give more steps, or a policy with more head-room"
        )
    levels = [best - (1 - mark) * (best - start) for mark in MARKS]
    return [_seconds_to(above, level) / _seconds_to(below, level) for level in levels]


def _seconds_to(curve: Points, level: float) -> float:
    """When the curve first reaches the level, on the line between two evaluations."""
    for (start_s, low), (end_s, high) in pairwise(curve):
        if high >= level > low:
            return start_s + (end_s - start_s) * (level - low) / (high - low)
    raise ValueError(f"the curve must reach {level}, found {curve}")


def _learning_curve(
    config: GrpoConfig, mode: LoopMode, steps: int, every: int, seed: int
) -> list[tuple[float, float]]:
    run_dir = _grpo(
        config,
        mode,
        {"steps": steps, "seed": seed, "eval": {"every": every}, "checkpoint": {"every": 0}},
    )
    seconds = training_seconds(read_metrics(run_dir.metrics), every)
    return [
        (seconds[line["step"]], (line["f1/entities"] + line["f1/relations"]) / 2)
        for line in read_json_lines(run_dir.evals)
        if line["split"] == "heldout"
    ]


def training_seconds(lines: Sequence[MetricsLine], every: int) -> list[float]:
    """Seconds of training up to each step, from step 0 on.

    The step after an evaluation holds its time as well; the median of the others stands for it, so
    that neither side is judged by how often it was evaluated.
    """
    walls = [line["time/step_s"] or 0.0 for line in lines]
    usual = median(wall for i, wall in enumerate(walls) if i % every) if every > 1 else 0.0
    total, seconds = 0.0, [0.0]
    for i, wall in enumerate(walls):
        total += min(wall, usual) if i and usual and i % every == 0 else wall
        seconds.append(total)
    return seconds


def _grpo(config: GrpoConfig, mode: LoopMode, changes: Mapping[str, Any]) -> RunDir:
    """One complete run in a folder of its own below the configuration's, which it replaces."""
    from actors.grpo import run_grpo

    folder = Path(config.run_dir) / mode.name
    shutil.rmtree(folder, ignore_errors=True)
    tree = config.model_dump(mode="json")
    for key, value in changes.items():
        tree[key] = tree[key] | value if isinstance(value, Mapping) else value
    tree["sampling"]["ignore_eos"] = mode.is_fixed
    tree |= {"run_dir": str(folder), "max_staleness": mode.max_staleness}
    return run_grpo(GrpoConfig.model_validate(tree))
