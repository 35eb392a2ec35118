"""What benchmarks compute from their measurements, on numbers worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed import loop
from benchmarks.speed.loop import (
    FIGURES,
    MARKS,
    WARM_UP_STEPS,
    Clock,
    LoopMode,
    loop_figures,
    modes_of,
    rows_of,
    training_seconds,
    values_of,
    wall_ratios_at_equal_f1,
)
from t2g_ray.config import GrpoConfig
from t2g_ray.run.folder import RunDir


def line(step_s: float, generate_s: float, train_s: float) -> dict[str, float | None]:
    return {
        "time/step_s": step_s,
        "time/generate_s": generate_s,
        "time/train_s": train_s,
        "time/sync_s": 0.1,
        "idle/learner": 0.25,
        "idle/samplers": 0.5,
        "staleness/mean": 1.0,
        "tokens/generated": 100.0,
        "groups/trained": 7.0,
    }


def test_a_step_that_hides_its_shorter_side_has_a_ratio_of_one() -> None:
    figures = loop_figures([line(2.0, 2.0, 1.0), line(3.0, 1.0, 3.0)])
    assert figures["step_over_max"] == pytest.approx(1.0)
    assert figures["wall_s_per_step"] == pytest.approx(2.5)
    assert figures["tokens_per_s"] == pytest.approx(200 / 5)


def test_steps_one_after_the_other_have_the_ratio_of_the_sum_to_the_longer_side() -> None:
    # 3 s for 2 s of generation and 1 s of training.
    assert loop_figures([line(3.0, 2.0, 1.0)])["step_over_max"] == pytest.approx(1.5)


def test_modes_hold_the_synchronous_one_and_both_kinds_of_length() -> None:
    assert [mode.name for mode in modes_of((2, 1))] == [
        "sync",
        "async_1",
        "async_2",
        "fixed/sync",
        "fixed/async_1",
        "fixed/async_2",
    ]
    assert [mode.name for mode in modes_of((1,), with_fixed=False)] == ["sync", "async_1"]


def test_equal_f1_compares_the_times_to_levels_that_both_reach() -> None:
    # The best of `below` is 0.6 at 40 s. `above` passes 0.6 half-way between 10 s and 20 s.
    above = [(0.0, 0.2), (10.0, 0.5), (20.0, 0.7), (30.0, 0.65)]
    below = [(0.0, 0.2), (20.0, 0.4), (40.0, 0.6)]
    ratios = wall_ratios_at_equal_f1(above, below)
    assert len(ratios) == len(MARKS)
    # 60 % of the rise, 0.44: at 8 s and 24 s.
    assert ratios[0] == pytest.approx(8 / 24)
    assert ratios[-1] == pytest.approx(15 / 40)
    assert wall_ratios_at_equal_f1(below, above) == pytest.approx([1 / ratio for ratio in ratios])


def test_equal_f1_needs_curves_that_rise() -> None:
    flat = [(0.0, 0.5), (10.0, 0.4)]
    with pytest.raises(ValueError, match="must raise held-out F1"):
        wall_ratios_at_equal_f1(flat, [(0.0, 0.5), (10.0, 0.9)])


def test_seconds_of_evaluations_are_left_out_of_training_time() -> None:
    # Evaluations after steps 2 and 4 lie in the walls of steps 3 and 5.
    lines = [line(wall, 1.0, 1.0) for wall in (1.0, 1.0, 5.0, 1.0, 7.0, 1.0)]
    assert training_seconds(lines, every=2) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@given(counted=st.integers(1, 50), lag=st.integers(0, 5))
def test_neither_the_first_steps_nor_those_without_generation_count(counted: int, lag: int) -> None:
    clock = Clock(counted=counted, lag=lag)
    steps = list(range(clock.steps))
    counting = clock.of(steps)
    assert len(counting) == counted
    # Groups of `lag` further steps are begun at once, and none in the last `lag` steps.
    assert counting[0] >= WARM_UP_STEPS + lag
    assert counting[-1] < clock.steps - lag
    for wrong in (steps[:-1], [*steps, 0], []):
        with pytest.raises(ValueError, match=f"must have {clock.steps} steps"):
            clock.of(wrong)


@pytest.mark.parametrize("key", ["time/step_s", "time/train_s", "idle/learner", "groups/trained"])
def test_a_step_that_is_not_finite_is_no_step_without_cost(key: str) -> None:
    good = line(2.0, 2.0, 1.0)
    loop_figures([good])
    with pytest.raises(ValueError, match=f"finite {key}, found 1 in 2 steps"):
        loop_figures([good, {**good, key: None}])


@pytest.mark.parametrize("lines", [[], [{}], [{"a": None}], [{"a": 1.0}, {"a": None}]], ids=str)
def test_values_are_there_for_every_step_or_not_at_all(
    lines: list[dict[str, float | None]],
) -> None:
    with pytest.raises(ValueError, match="each step must have a finite a"):
        values_of(lines, "a")
    assert values_of([{"a": 0.0}, {"a": 1.0}], "a") == [0.0, 1.0]


def test_asynchrony_is_over_synchrony_run_by_run() -> None:
    def figures(wall: float) -> dict[str, float]:
        return {**dict.fromkeys(FIGURES, 1.0), "wall_s_per_step": wall}

    modes = modes_of((1,), with_fixed=False)
    rows = rows_of(modes, {"sync": [figures(2.0), figures(4.0)], "async_1": [figures(1.0)] * 2})
    (ratio,) = [row for row in rows if row.metric == "wall_over_sync/async_1"]
    assert ratio.values == (0.5, 0.25)


class Stage:
    """Stands for the GRPO stage: writes as many lines as steps; the last ones are quick."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, config: object, mode: LoopMode, changes: Mapping[str, Any]) -> RunDir:
        self.asked.append((mode.name, dict(changes)))
        run = RunDir(self.folder / f"{len(self.asked)}")
        run.path.mkdir()
        steps = changes["steps"]
        walls = [9.0] * 3 + [1.0] * (steps - 3 - mode.max_staleness) + [0.1] * mode.max_staleness
        lines = [{"step": n, **line(wall, 1.0, 1.0)} for n, wall in enumerate(walls)]
        run.metrics.write_text("".join(json.dumps(one) + "\n" for one in lines))
        evals = [
            {"split": "heldout", "step": n, "f1/entities": n / steps, "f1/relations": n / steps}
            for n in range(steps + 1)
        ]
        run.evals.write_text("".join(json.dumps(one) + "\n" for one in evals))
        return run


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    fake = Stage(tmp_path)
    monkeypatch.setattr(loop, "_grpo", fake)
    return fake


def test_modes_run_equally_long_in_turn_and_quick_last_steps_do_not_count(stage: Stage) -> None:
    modes = modes_of((1, 2), with_fixed=False)
    rows = {row.metric: row for row in loop.run(GRPO, runs=3, steps=4, modes=modes, f1_steps=0)}
    first = [name for name, _ in stage.asked[::3]]
    assert sorted(first) == ["async_1", "async_2", "sync"]
    assert {changes["steps"] for _, changes in stage.asked} == {3 + 2 + 4 + 2}
    for mode in modes:
        assert rows[f"wall_s_per_step/{mode.name}"].values == (1.0, 1.0, 1.0)


def test_curves_at_equal_f1_have_equal_schedules_and_end_before_the_quick_steps(
    stage: Stage,
) -> None:
    modes = modes_of((2,), with_fixed=False)
    rows = loop.run(GRPO, runs=2, steps=0, modes=modes, f1_steps=6, f1_every=3)
    assert [name for name, _ in stage.asked] == ["sync", "async_2", "async_2", "sync"]
    assert {changes["steps"] for _, changes in stage.asked} == {8}
    # Up to step 6 both took equally long; the two steps of 0.1 s would have made it less.
    assert [row.values for row in rows] == [(1.0, 1.0), (1.0, 1.0)]


GRPO = GrpoConfig(model="embedded", run_dir="runs/x")
