"""What each number of rollout actors gives, by hand, and where the next one stops paying."""

from __future__ import annotations

import pytest

from benchmarks.sweep.figures import against_ideal, figures_at, medians_of, paying, rows_of
from tests.unit.benchmarks.sweep.parts import at, line, swept


def test_figures_are_those_of_all_counted_steps() -> None:
    found = figures_at([line(2, wall_s=1.0), line(2, wall_s=3.0, wait_s=2.0)], num_devices=4)
    assert found == {
        "tokens_per_s": 500.0,
        "tokens_per_s_per_device": 125.0,
        "trained_tokens_per_s": 500.0,
        "wall_s_per_step": 2.0,
        "rollout_wait_s": 1.5,
        "backpressure_s": 0.25,
        "learner_idle": 0.5,
        "samplers_idle": 0.125,
        "staleness": 1.0,
    }
    with pytest.raises(ValueError, match="finite time/step_s"):
        figures_at([{**line(2), "time/step_s": None}], num_devices=4)


def test_efficiency_is_against_the_first_number_and_gain_against_the_one_before() -> None:
    found = against_ideal(
        {2: at(2, wall_s=4, wait_s=3), 4: at(4, wall_s=2, wait_s=1), 8: at(8, wall_s=1.6, wait_s=1)}
    )
    assert [found[n]["efficiency"] for n in (2, 4, 8)] == pytest.approx([1.0, 1.0, 0.625])
    assert "gain_share" not in found[2]
    assert [found[n]["gain_share"] for n in (4, 8)] == pytest.approx([1.0, 0.25])


def test_actors_stop_paying_before_those_that_give_less_than_half_of_their_ideal_gain() -> None:
    found = paying(medians_of(swept().rows))
    assert (found.number, found.reason) == (2, "4 give 0.25 of their ideal gain")


def test_actors_stop_paying_where_the_learner_hardly_waits() -> None:
    run = {1: at(1, wall_s=4, wait_s=3), 2: at(2, wall_s=2, wait_s=0.02)}
    found = paying(against_ideal({**run, 4: at(4, wall_s=1, wait_s=0)}))
    assert (found.number, found.reason) == (2, "with 2 the learner waits 1.0% of a step")


def test_where_all_numbers_pay_the_last_one_says_that_more_may() -> None:
    run = against_ideal({1: at(1, wall_s=4, wait_s=3), 2: at(2, wall_s=2, wait_s=1)})
    found = paying(run)
    assert (found.number, found.reason) == (
        2,
        "the learner still waits 50.0% of a step: more may pay",
    )
    assert paying(against_ideal({3: at(3, wall_s=4, wait_s=3)})).number == 3


def test_rows_hold_one_value_of_each_run_and_only_numbers_that_all_runs_have() -> None:
    first = {1: at(1, wall_s=4, wait_s=3), 2: at(2, wall_s=2, wait_s=1)}
    rows = {row.metric: row for row in rows_of([first, {1: at(1, wall_s=2, wait_s=1)}])}
    assert rows["tokens_per_s/1"].values == (250.0, 500.0)
    assert rows["efficiency/1"].values == (1.0, 1.0)
    assert rows["pays_up_to"].values == (1.0, 1.0)
    assert not any(name.endswith("/2") for name in rows)
    with pytest.raises(ValueError, match="each run must measure a number"):
        rows_of([first, {}])
