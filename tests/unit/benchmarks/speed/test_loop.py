"""What benchmarks compute from their measurements, on numbers worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.speed.loop import (
    MARKS,
    loop_figures,
    modes_of,
    training_seconds,
    wall_ratios_at_equal_f1,
)


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
