"""What is demanded of a result -> whether it is met, and each reason why it is not.

`baselines/limits.json`: {case: {"command": str, "limits": {metric: {"goal": [low, high],
"of_baseline": [low, high]}}}}, null for no bound. "goal" bounds the median itself, "of_baseline"
bounds median / baseline median. A case is one command; its baseline is `baselines/CASE.json`.

Invariant: a limit is met only by figures that show it. A row that is missing, of too few runs or
in another unit, and a baseline that is missing, of other settings, of another machine or of the
same code, miss it; nothing is skipped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.result import UNCOMMITTED, Result, ResultRow, Settings

BASELINES = Path(__file__).parent / "baselines"
PORTABLE_UNITS = ("ratio", "share", "count")
"""Units of figures that mean the same on other hardware."""
MIN_RUNS = 3
"""A median of fewer is a single run's figure, or the mean of two."""
MEMORY_TOLERANCE = 0.1
"""What the system takes for itself differs from start to start, and changes no speed."""

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Bounds of one metric; at least one of them can be missed."""

    metric: str
    goal: Bounds | None = None
    of_baseline: Bounds | None = None

    @property
    def words(self) -> str:
        """Example: ">= 0.95, >= 0.85 x baseline"."""
        goal = [_words(self.goal)] if self.goal else []
        return ", ".join(
            [*goal, *([f"{_words(self.of_baseline)} x baseline"] if self.of_baseline else [])]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One command and what is demanded of its figures."""

    name: str
    command: str
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A limit, what was found, and why it is missed: met without a problem only."""

    limit: Limit
    row: ResultRow | None
    baseline: float | None
    problems: tuple[str, ...]

    @property
    def is_met(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems


def read_cases(path: Path | None = None) -> dict[str, Case]:
    """All cases by name. Raises ValueError for limits that nothing could miss."""
    path = path or BASELINES / "limits.json"
    text = path.read_text(encoding="utf-8")
    content: Mapping[str, Any] = json.loads(text, object_pairs_hook=_once)
    return {name: _case(name, fields) for name, fields in content.items()}


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand there once: a second one would replace a limit without a word."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"every key needs to stand once, found {keys}")
    return dict(pairs)


def _case(name: str, fields: Mapping[str, Any]) -> Case:
    limits = tuple(_limit(metric, kinds) for metric, kinds in fields["limits"].items())
    if not limits or set(fields) != {"command", "limits"}:
        raise ValueError(f"{name} needs a command and limits, found {dict(fields)}")
    return Case(name=name, command=fields["command"], limits=limits)


def _limit(metric: str, kinds: Mapping[str, Sequence[float | None]]) -> Limit:
    if not kinds or not set(kinds) <= {"goal", "of_baseline"}:
        raise ValueError(f"{metric} needs a goal or of_baseline, found {list(kinds)}")
    for low, high in kinds.values():
        ends = [end for end in (low, high) if end is not None]
        if not ends or not all(map(math.isfinite, ends)) or ends != sorted(ends):
            raise ValueError(f"{metric} needs a bound that can be missed, found {[low, high]}")
    return Limit(metric=metric, **{kind: (low, high) for kind, (low, high) in kinds.items()})


def judge(result: Result, case: Case, baseline: Result | None) -> list[Verdict]:
    """Hold a result against every limit of its case."""
    unfit = baseline_problems(result, baseline)
    return [_judge(limit, result, baseline, unfit) for limit in case.limits]


def _judge(limit: Limit, result: Result, baseline: Result | None, unfit: Sequence[str]) -> Verdict:
    row, known = result.row(limit.metric), None
    if row is None:
        problem = f"{limit.metric} was not measured"
        return Verdict(limit=limit, row=None, baseline=None, problems=(problem,))
    problems = []
    if row.runs < MIN_RUNS:
        problems.append(f"at least {MIN_RUNS} runs are needed, found {row.runs}")
    if limit.goal and not within(row.median, limit.goal):
        problems.append(f"{row.median:.4g} is not {_words(limit.goal)}")
    if limit.of_baseline:
        found = list(unfit)
        if baseline is not None and not unfit:
            known, found = _reference(row, result, baseline)
        if known is not None and not within(row.median / known, limit.of_baseline):
            found.append(f"{row.median / known:.3g} x baseline is not {_words(limit.of_baseline)}")
        problems += found
    return Verdict(limit=limit, row=row, baseline=known, problems=tuple(problems))


def _reference(row: ResultRow, result: Result, baseline: Result) -> tuple[float | None, list[str]]:
    """The baseline's median of the same metric, or why it cannot be compared with."""
    known = baseline.row(row.metric)
    if known is None:
        return None, ["the baseline has no such row"]
    if known.unit != row.unit:
        return None, [f"the baseline's unit is {known.unit}, found {row.unit}"]
    if known.runs < MIN_RUNS:
        return None, [f"the baseline needs {MIN_RUNS} runs, found {known.runs}"]
    if known.median <= 0:
        return None, [f"a ratio needs a baseline above 0, found {known.median:g}"]
    unlike = machine_differences(baseline.machine, result.machine)
    if unlike and row.unit not in PORTABLE_UNITS:
        return None, [f"the baseline is of another machine: {'; '.join(unlike)}"]
    return known.median, []


def baseline_problems(result: Result, baseline: Result | None) -> list[str]:
    """Why a result cannot be held against a baseline at all."""
    if baseline is None:
        return ["there is no baseline"]
    unlike = [
        *differences(baseline.settings, result.settings),
        *differences(baseline.config, result.config),
    ]
    problems = []
    if baseline.bench != result.bench:
        problems.append(f"the baseline is of another benchmark: {baseline.bench}")
    if unlike:
        problems.append(f"the baseline is of other settings: {'; '.join(unlike)}")
    if "unknown" in (baseline.commit, result.commit):
        problems.append("the commits of both must be known")
    if baseline.commit.removesuffix(UNCOMMITTED) == result.commit.removesuffix(UNCOMMITTED):
        problems.append("the baseline is of the same commit; it must be of an earlier one")
    elif max(map(_time, baseline.measured)) >= min(map(_time, result.measured)):
        problems.append("the baseline is not older than the result")
    return problems


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def differences(before: Settings, now: Settings) -> list[str]:
    """Example: ["steps: 25 and 40"]."""
    keys = sorted({*before, *now})
    absent = "not given"
    return [
        f"{key}: {before.get(key, absent)} and {now.get(key, absent)}"
        for key in keys
        if before.get(key, absent) != now.get(key, absent)
    ]


def machine_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`differences` of what a speed depends on; a little more or less memory is not."""
    memory = [float(side.get("memory_gib", 0.0)) for side in (before, now)]
    is_close = max(memory) <= min(memory) * (1 + MEMORY_TOLERANCE)
    ignored = {"memory_gib"} if is_close else set()
    kept = [{k: v for k, v in side.items() if k not in ignored} for side in (before, now)]
    return differences(*kept)


def within(value: float, bounds: Bounds) -> bool:
    """Whether a value is finite and inside; a bound itself is inside."""
    low, high = bounds
    is_above, is_below = low is None or value >= low, high is None or value <= high
    return math.isfinite(value) and is_above and is_below


def _words(bounds: Bounds) -> str:
    low, high = bounds
    ends = [f">= {low:g}" if low is not None else "", f"<= {high:g}" if high is not None else ""]
    return " and ".join(end for end in ends if end)
