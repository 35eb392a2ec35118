"""Whole GRPO runs: wall-clock a step, how much of it is idle, and what asynchrony costs in quality.

Each mode is a complete run of the product. Modes take turns within a run of the benchmark. With
`fixed` lengths every completion goes on to the limit, so that speed does not depend on what the
policy happens to write.

Invariant (fair clocks): every mode runs for the same number of steps, so that all have the same
learning rates, and the same steps of each count. Not counted are the first ones, which allocate and
fill the pipeline, and the last ones, for which an asynchronous run has nothing left to generate.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar

from benchmarks.result import ResultRow, make_row, ratio_row, turns
from t2g_ray.config import GrpoConfig
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import MetricsLine, read_metrics

Line = TypeVar("Line")

WARM_UP_STEPS = 3
"""First steps of a run, which allocate and compile, and are left out of its figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Which steps of a run count. `lag` is the largest max_staleness of all that is compared."""

    counted: int
    lag: int = 0

    @property
    def first(self) -> int:
        """Steps before those that count: warm-up, and those whose groups were begun at once."""
        return WARM_UP_STEPS + self.lag

    @property
    def steps(self) -> int:
        """All steps of the run: in the last `lag` ones samplers have nothing left to do."""
        return self.first + self.counted + self.lag

    def of(self, lines: Sequence[Line]) -> list[Line]:
        """The counted steps; raises ValueError for a run that ended early or went on."""
        if len(lines) != self.steps:
            raise ValueError(f"a run must have {self.steps} steps, found {len(lines)}")
        return list(lines[self.first : self.first + self.counted])


FIGURES = {
    "wall_s_per_step": "s",
    "generate_s_per_step": "s",
    "train_s_per_step": "s",
    "sync_s_per_step": "s",
    "step_over_max": "ratio",
    "learner_idle": "share",
    "samplers_idle": "share",
    "staleness": "versions",
    "trained_groups_per_step": "groups",
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
    """Rows of all modes, and at equal F1 of the largest staleness; 0 steps leave out either."""
    most = max(mode.max_staleness for mode in modes)
    rows: list[ResultRow] = []
    if steps:
        clock = Clock(counted=steps, lag=most)
        figures: dict[str, list[Mapping[str, float]]] = {mode.name: [] for mode in modes}
        for number in range(runs):
            for mode in turns(modes, number):
                lines = throughput_run(config, mode, clock, seed=config.seed + number)
                figures[mode.name].append(loop_figures(lines))
        rows += rows_of(modes, figures)
    if f1_steps:
        rows += _equal_f1_rows(config, most, runs=runs, steps=f1_steps, every=f1_every)
    return rows


def rows_of(
    modes: Sequence[LoopMode], figures: Mapping[str, Sequence[Mapping[str, float]]]
) -> list[ResultRow]:
    """The figures of each mode in each run -> rows, and wall-clocks over the synchronous one's."""
    rows = [
        make_row(f"{key}/{name}", [of_run[key] for of_run in of_runs], unit)
        for name, of_runs in figures.items()
        for key, unit in FIGURES.items()
    ]
    return [*rows, *(_speed_row(mode, figures) for mode in modes if mode.max_staleness)]


def _speed_row(mode: LoopMode, figures: Mapping[str, Sequence[Mapping[str, float]]]) -> ResultRow:
    sync = LoopMode(max_staleness=0, is_fixed=mode.is_fixed)
    walls = {
        name: [of_run["wall_s_per_step"] for of_run in figures[name]]
        for name in (mode.name, sync.name)
    }
    return ratio_row(f"wall_over_sync/{mode.name}", walls[mode.name], walls[sync.name])


def throughput_run(
    config: GrpoConfig, mode: LoopMode, clock: Clock, *, seed: int
) -> list[MetricsLine]:
    """Lines of metrics of the counted steps of a run without evaluation."""
    run_dir = _grpo(
        config,
        mode,
        {
            "steps": clock.steps,
            "seed": seed,
            "data": {"heldout": "none"},
            "checkpoint": {"every": 0},
        },
    )
    return clock.of(read_metrics(run_dir.metrics))


def values_of(lines: Sequence[MetricsLine], key: str) -> list[float]:
    """One value a step.

    Raises ValueError where there is none: a step that is not finite is no step without cost.
    """
    values = [value for line in lines if (value := line.get(key)) is not None]
    if not lines or len(values) < len(lines):
        raise ValueError(
            f"each step must have a finite {key}, found {len(values)} in {len(lines)} steps"
        )
    return values


def loop_figures(lines: Sequence[MetricsLine]) -> dict[str, float]:
    """Means over the steps of a run; `step_over_max` is 1 where the longer side never waits."""
    walls, generate, train = (
        values_of(lines, f"time/{key}_s") for key in ("step", "generate", "train")
    )
    longer = sum(max(pair) for pair in zip(generate, train, strict=True))
    return {
        "wall_s_per_step": fmean(walls),
        "generate_s_per_step": fmean(generate),
        "train_s_per_step": fmean(train),
        "sync_s_per_step": fmean(values_of(lines, "time/sync_s")),
        "step_over_max": sum(walls) / longer,
        "learner_idle": fmean(values_of(lines, "idle/learner")),
        "samplers_idle": fmean(values_of(lines, "idle/samplers")),
        "staleness": fmean(values_of(lines, "staleness/mean")),
        # A step that trains few groups is quick, which is no merit.
        "trained_groups_per_step": fmean(values_of(lines, "groups/trained")),
        "tokens_per_s": sum(values_of(lines, "tokens/generated")) / sum(walls),
    }


def _equal_f1_rows(
    config: GrpoConfig, max_staleness: int, *, runs: int, steps: int, every: int
) -> list[ResultRow]:
    """Wall-clock to the same held-out F1, asynchronous over synchronous, a seed a run."""
    of_runs = []
    for number in range(runs):
        curves = {
            lag: _learning_curve(
                config,
                LoopMode(max_staleness=lag),
                {"steps": steps + max_staleness, "seed": config.seed + number},
                every=every,
                last=steps,
            )
            for lag in turns((0, max_staleness), number)
        }
        of_runs.append(wall_ratios_at_equal_f1(curves[max_staleness], curves[0]))
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
    config: GrpoConfig, mode: LoopMode, changes: Mapping[str, int], *, every: int, last: int
) -> list[tuple[float, float]]:
    """Up to step `last`; the steps after it, without generation, count on neither side."""
    quiet = {"eval": {"every": every}, "checkpoint": {"every": 0}}
    run_dir = _grpo(config, mode, {**changes, **quiet})
    seconds = training_seconds(read_metrics(run_dir.metrics), every)
    return [
        (seconds[line["step"]], (line["f1/entities"] + line["f1/relations"]) / 2)
        for line in read_json_lines(run_dir.evals)
        if line["split"] == "heldout" and line["step"] <= last
    ]


def training_seconds(lines: Sequence[MetricsLine], every: int) -> list[float]:
    """Seconds of training up to each step, from step 0 on.

    The step after an evaluation holds its time as well; the median of the others stands for it, so
    that neither side is judged by how often it was evaluated.
    """
    walls = values_of(lines, "time/step_s")
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
    if mode.max_staleness != config.max_staleness:
        del tree["rollout"]["pass_tokens"]  # follows from the staleness
    tree |= {"run_dir": str(folder), "max_staleness": mode.max_staleness}
    return run_grpo(GrpoConfig.model_validate(tree))
