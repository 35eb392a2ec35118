"""Configuration -> the loop at each number of rollout actors, inside one run where it can be.

A run that can change its number is asked to by what `t2g scale` writes, from one step to the next,
and ended when the last number is measured. Engines that share devices with the learner cannot join
a live run: there each number is a run of its own.

Invariant (equal work): all numbers get the same policy. Its learning rate is so small that no
weight moves, so neither lengths nor rewards drift from one number to the next. Not counted are the
first steps of each number, whose groups were begun with another one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.result import ResultRow
from benchmarks.speed.loop import WARM_UP_STEPS
from benchmarks.sweep.figures import Figures, figures_at, rows_of
from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import MetricsLine
from t2g_ray.run.scale_request import read_answer, write_request

NO_LEARNING = 1e-12
"""A learning rate that moves no weight."""
STEPS_OF_RUN = 1_000_000
"""More than any sweep takes; the run is ended."""


class SweepOver(Exception):
    """A run that is measured, and ends with this."""


class NoRoom(SweepOver):
    """The same before its last number, which the cluster has no room for."""


@dataclass(kw_only=True)
class Collector:
    """Implements `run.metrics.MetricsSink`: counts the steps that count, and asks for the next
    number."""

    run: RunDir
    numbers: Sequence[int]
    """Rising, or falling, from the one that the run starts with."""
    warm_up: int
    steps: int
    lines: dict[int, list[MetricsLine]] = field(default_factory=dict)
    """Number -> its counted steps."""
    _num_left: int = field(init=False)
    _at: int = 0

    def __post_init__(self) -> None:
        self._num_left = self.warm_up

    def write(self, line: Mapping[str, float]) -> None:
        """Raises SweepOver after the last number, NoRoom where the run has none for the next."""
        number = self.numbers[self._at]
        if line["rollout/actors"] != number:
            answer = read_answer(self.run.rollouts_json)
            if answer is not None and answer.failure:
                raise NoRoom(f"{number} rollout actors did not start: {answer.failure}")
            return
        if self._num_left > 0:
            self._num_left -= 1
            return
        counted = self.lines.setdefault(number, [])
        counted.append(dict(line))
        if len(counted) == self.steps:
            self._next()

    def close(self) -> None:
        """Nothing is held."""

    def _next(self) -> None:
        self._at, self._num_left = self._at + 1, self.warm_up
        if self._at == len(self.numbers):
            raise SweepOver("all numbers of rollout actors are measured")
        write_request(self.run.scale_request, self.numbers[self._at])


def check_numbers(numbers: Sequence[int]) -> None:
    """Raises ValueError unless they rise from 1 or more."""
    if not numbers or numbers[0] < 1 or list(numbers) != sorted(set(numbers)):
        raise ValueError(f"--rollouts must rise from 1 or more, found {list(numbers)}")


def run(config: GrpoConfig, numbers: Sequence[int], *, runs: int, steps: int) -> list[ResultRow]:
    """The rows of all numbers; each run in a folder below the configuration's.

    Raises ValueError for numbers that do not rise, for one that the configuration has no place for
    and for a folder that holds a run.
    """
    check_numbers(numbers)
    for number in numbers:
        # Refused now, and not after the runs of those before it.
        measured(config, config.run_dir, rollouts=number, seed=config.seed)
    if RunDir(config.run_dir).config.exists():
        raise ValueError(
            f"run_dir must be a folder for the sweep, found a run in {config.run_dir}; give "
            "another run_dir"
        )
    can_change = config.colocate == "off"
    found = []
    for number in range(runs):
        # Rising and falling in turns: what drifts with time then favours neither end.
        order = list(numbers)[:: -1 if number % 2 else 1]
        parts = [order] if can_change else [[one] for one in order]
        lines: dict[int, list[MetricsLine]] = {}
        for part in parts:
            lines |= _measure(config, part, steps=steps, seed=config.seed + number)
        found.append(_figures(config, lines, steps=steps))
        # Without those that the cluster had no room for, with which the next run may not start.
        numbers = list(found[-1])
    return rows_of(found)


def _figures(
    config: GrpoConfig, lines: Mapping[int, list[MetricsLine]], *, steps: int
) -> dict[int, Figures]:
    return {
        number: figures_at(lines[number], num_devices=config.devices_with(number))
        for number in sorted(lines)
        if len(lines[number]) == steps
    }


def _measure(
    config: GrpoConfig, numbers: Sequence[int], *, steps: int, seed: int
) -> dict[int, list[MetricsLine]]:
    """The counted lines of one run that has these numbers of actors one after the other."""
    from actors.grpo import run_grpo

    name = "rollouts_" + "_".join(map(str, numbers))
    folder = Path(config.run_dir) / name
    shutil.rmtree(folder, ignore_errors=True)
    warm_up = max(WARM_UP_STEPS, config.max_staleness + 2)
    collector = Collector(run=RunDir(folder), numbers=numbers, warm_up=warm_up, steps=steps)
    try:
        run_grpo(measured(config, folder, rollouts=numbers[0], seed=seed), sinks=[collector])
    except NoRoom as reason:
        # Boundary: what was measured before is told all the same.
        print(f"t2g bench sweep: {reason}", file=sys.stderr)
    except SweepOver:
        # Boundary: the end of the measurement ends the run.
        pass
    return collector.lines


def measured(config: GrpoConfig, folder: Path, *, rollouts: int, seed: int) -> GrpoConfig:
    """The configuration of one run: as given, but without learning, evaluations, checkpoints."""
    tree = config.model_dump(mode="json")
    tree |= {"run_dir": str(folder), "seed": seed, "steps": STEPS_OF_RUN, "resume": "never"}
    tree["data"]["heldout"] = "none"
    tree["eval"]["every"] = tree["checkpoint"]["every"] = 0
    tree["rollout"]["actors"] = rollouts
    tree["learner"]["optimizer"] |= {"lr": NO_LEARNING, "muon_lr": NO_LEARNING}
    return build_config(GrpoConfig, tree)
