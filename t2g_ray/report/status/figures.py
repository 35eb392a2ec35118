"""The newest lines of metrics.jsonl -> how fast a run goes, where it is heading, what holds it up.

A mean over `WINDOW` steps is compared with that over the ones before: a single step is noise.
Invariant: a figure that the lines do not hold is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from t2g_ray.report.status.reading import JsonObject

WINDOW = 10
Lines = Sequence[JsonObject]

FAULTS = "faults/"
"""Of the names of counts, since the run began, of what went wrong and did not end it."""
_CLEAR = 0.1
"""Share of wall-clock by which one side must wait longer than the other to be called idle."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of the newest steps, all waiting included."""

    tokens_per_s: float | None
    steps_per_hour: float | None
    step_s: float | None


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure over the newest steps, and over as many before them."""

    now: float
    before: float | None


def pace_of(lines: Lines) -> Pace:
    """Rates of the newest steps."""
    step_s = seconds_a_step(lines)
    return Pace(
        tokens_per_s=mean_of(lines, "throughput/tokens_per_s"),
        steps_per_hour=3600 / step_s if step_s else None,
        step_s=step_s,
    )


def seconds_a_step(lines: Lines) -> float | None:
    """Wall-clock of a step, with the evaluations and checkpoints between steps."""
    newest = [(line["step"], line["time_s"]) for line in lines[-WINDOW - 1 :] if _has_time(line)]
    if len(newest) < 2:
        return newest[0][1] / newest[0][0] if newest and newest[0][0] else None
    (first, start_s), (last, end_s) = newest[0], newest[-1]
    return (end_s - start_s) / (last - first) if last > first and end_s > start_s else None


def _has_time(line: JsonObject) -> bool:
    return all(isinstance(line.get(key), int | float) for key in ("step", "time_s"))


def trend_of(lines: Lines, key: str) -> Trend | None:
    """None where no line holds the figure."""
    values = _values(lines, key)
    if not values:
        return None
    width = min(WINDOW, max(1, len(values) // 2))
    before = values[-2 * width : -width]
    return Trend(fmean(values[-width:]), fmean(before) if before else None)


def mean_of(lines: Lines, key: str) -> float | None:
    """Over the newest steps; None where no line holds the figure."""
    values = _values(lines[-WINDOW:], key)
    return fmean(values) if values else None


def _values(lines: Lines, key: str) -> list[float]:
    return [line[key] for line in lines if isinstance(line.get(key), int | float)]


def bottleneck_of(lines: Lines) -> str:
    """What a step waits for, in words; empty where the lines do not tell."""
    learner, samplers = mean_of(lines, "idle/learner"), mean_of(lines, "idle/samplers")
    if learner is None or samplers is None:
        return ""
    if learner > samplers + _CLEAR:
        return f"rollout actors: the learner waits {learner:.0%} of the time, they {samplers:.0%}"
    if samplers > learner + _CLEAR:
        return f"the learner: rollout actors wait {samplers:.0%} of the time, it {learner:.0%}"
    return f"none: the learner waits {learner:.0%} of the time, rollout actors {samplers:.0%}"


def troubles_of(lines: Lines) -> list[str]:
    """What went wrong in these steps without ending the run."""
    first, last = (lines[0].get("step"), lines[-1].get("step")) if lines else (0, 0)
    when = f"in steps {first} to {last}"
    errors = sum(_values(lines, "groups/grader_errors"))
    told = [f"{errors:.0f} completions that could not be graded {when}"] if errors else []
    prefix = "nonfinite/"
    broken = {key.removeprefix(prefix) for line in lines for key in line if key.startswith(prefix)}
    told += [f"{key} was not finite {when}" for key in sorted(broken)]
    newest = lines[-1] if lines else {}
    counted = {key: newest[key] for key in sorted(newest) if key.startswith(FAULTS)}
    return told + [
        f"{number:g} failures of a {key.removeprefix(FAULTS)}"
        for key, number in counted.items()
        if number
    ]
