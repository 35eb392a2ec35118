"""What one rollout actor more or less gives, by hand and against made-up runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.grpo.scaling.paying import StepTimes, share_of_last, share_of_next, usual_times
from tests.unit.grpo.scaling.parts import MadeUpRun

seconds = st.floats(0.1, 100.0)


def times(n: int, *, step: float, wait: float, busy: float, held: float) -> StepTimes:
    return StepTimes(num_rollouts=n, step_s=step, wait_s=wait, busy_s=busy, held_s=held)


def test_the_next_actor_gives_all_of_its_gain_where_the_learner_only_waits() -> None:
    assert share_of_next(times(1, step=2, wait=2, busy=2, held=0)) == pytest.approx(1)
    assert share_of_next(times(4, step=2, wait=1, busy=2, held=0)) == pytest.approx(1)


def test_the_next_actor_gives_nothing_where_the_learner_never_waits() -> None:
    assert share_of_next(times(3, step=2, wait=0, busy=1, held=1)) == 0


def test_the_next_actor_shortens_a_step_by_no_more_than_the_learner_waits() -> None:
    # Half a second less of two: a third more tokens, where twice as many would be ideal.
    assert share_of_next(times(1, step=2, wait=0.5, busy=2, held=0)) == pytest.approx(1 / 3)


def test_the_last_actor_gives_what_does_not_fit_into_the_pauses_of_the_others() -> None:
    idle = times(2, step=2, wait=0, busy=0.5, held=1.5)
    assert share_of_last(idle) == 0
    # One actor would write for 3 s: 1 s more than the step has now.
    needed = times(2, step=2, wait=0, busy=1.5, held=0.5)
    assert share_of_last(needed) == pytest.approx(0.5)


def test_pauses_while_the_learner_trains_hold_no_work_of_a_synchronous_run() -> None:
    line = MadeUpRun(generate_s=2.0, train_s=1.0, max_staleness=0).line(2)
    found = usual_times([line], is_overlapped=False)
    assert found == times(2, step=2, wait=1, busy=1, held=0)
    assert share_of_last(found) == pytest.approx(0.5)


@given(seconds, seconds, st.integers(1, 64), st.sampled_from([0, 1]))
def test_the_next_actor_is_promised_what_the_last_one_gives_and_what_is_found(
    generate_s: float, train_s: float, n: int, max_staleness: int
) -> None:
    run = MadeUpRun(generate_s, train_s, max_staleness=max_staleness)
    before, after = run.line(n), run.line(n + 1)
    is_overlapped = max_staleness > 0
    promised = share_of_next(usual_times([before], is_overlapped=is_overlapped))
    given_ = share_of_last(usual_times([after], is_overlapped=is_overlapped))
    found = n * (before["time/step_s"] / after["time/step_s"] - 1)
    assert promised == pytest.approx(found, abs=1e-9)
    assert given_ == pytest.approx(found, abs=1e-9)


def test_a_single_long_step_does_not_count() -> None:
    run = MadeUpRun(4.0, 1.0)
    lines = [run.line(2) for _ in range(15)]
    usual = usual_times(lines, is_overlapped=True)
    slow = {**lines[0], "time/step_s": 90.0, "time/rollout_wait_s": 88.0}
    assert usual_times([*lines, slow], is_overlapped=True) == usual
    assert usual == times(2, step=2, wait=1, busy=2, held=0)


def test_pauses_of_both_sides_cancel_and_those_that_steps_leave_in_doubt_are_none() -> None:
    line = MadeUpRun(4.0, 1.0).line(2)
    both = {**line, "time/rollout_wait_s": 0.5, "time/backpressure_s": 0.5}
    assert usual_times([both], is_overlapped=True) == times(2, step=2, wait=0, busy=2, held=0)
    to_and_fro = [{**line, "time/rollout_wait_s": wait} for wait in [0.0, 1.0] * 8]
    assert usual_times(to_and_fro, is_overlapped=True).wait_s == 0
    mostly = [{**line, "time/rollout_wait_s": wait} for wait in [0.0, 1.0, 1.0, 1.0] * 4]
    # Rank 16 / 2 - 4 of 16 values.
    assert usual_times(mostly, is_overlapped=True).wait_s == 1.0
    assert usual_times(mostly[:4], is_overlapped=True).wait_s == 0.0
