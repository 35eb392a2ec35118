"""Rates, trends and waits of made-up steps, by hand."""

from __future__ import annotations

import pytest

from t2g_ray.report.status.figures import (
    Trend,
    bottleneck_of,
    mean_of,
    seconds_a_step,
    trend_of,
    troubles_of,
)
from tests.unit.report.status.parts import line


def test_the_pace_is_that_of_the_newest_steps() -> None:
    slow = [line(step, time_s=100.0 * step) for step in range(1, 11)]
    fast = [line(step, time_s=1000.0 + step) for step in range(11, 31)]
    assert seconds_a_step([*slow, *fast]) == 1.0
    assert seconds_a_step(slow[:1]) == 100.0
    assert seconds_a_step([]) is None


def test_a_clock_that_went_back_gives_no_pace() -> None:
    assert seconds_a_step([line(1, time_s=9.0), line(2, time_s=3.0)]) is None


def test_a_trend_compares_a_window_with_the_one_before() -> None:
    lines = [line(step, **{"reward/mean": float(step)}) for step in range(1, 5)]
    assert trend_of(lines, "reward/mean") == Trend(3.5, 1.5)
    assert trend_of(lines[:1], "reward/mean") == Trend(1.0, None)
    assert trend_of(lines, "unknown") is None


def test_values_that_are_not_finite_are_left_out() -> None:
    lines = [line(1, loss=2.0), line(2, loss=None, **{"nonfinite/loss": 1})]
    assert mean_of(lines, "loss") == 2.0
    assert troubles_of(lines) == ["loss was not finite in steps 1 to 2"]


@pytest.mark.parametrize(
    ("learner", "samplers", "told"),
    [(0.6, 0.1, "rollout actors"), (0.1, 0.6, "the learner:"), (0.3, 0.35, "none")],
)
def test_the_side_that_the_other_waits_for_is_the_bottleneck(
    learner: float, samplers: float, told: str
) -> None:
    lines = [line(1, **{"idle/learner": learner, "idle/samplers": samplers})]
    assert bottleneck_of(lines).startswith(told)
    assert bottleneck_of([{"step": 1}]) == ""


def test_completions_that_were_not_graded_are_counted() -> None:
    lines = [line(step, **{"groups/grader_errors": 2}) for step in (3, 4)]
    assert troubles_of(lines) == ["4 completions that could not be graded in steps 3 to 4"]


def test_failures_that_are_counted_since_the_start_are_told_once() -> None:
    lines = [line(step, **{"faults/tracker": step}) for step in (3, 4)]
    assert troubles_of(lines) == ["4 failures of a tracker"]
    assert troubles_of([line(1, **{"faults/tracker": 0})]) == []
