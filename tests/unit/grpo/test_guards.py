"""What stops a run: each guard at its limit and just beyond it."""

from __future__ import annotations

import math

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.guards import MAX_EMPTY_BATCHES, PARITY_TOKENS, Guards
from t2g_ray.grpo.stages import LoopError, Ready
from t2g_ray.types import TrainReport
from tests.unit.parts import group_summary, train_report


def guards(**tree: object) -> Guards:
    return Guards(build_config(GrpoConfig, {"run_dir": "x", **tree}))


def ready(*is_valid: bool) -> Ready:
    return Ready(group_summary(0, (1.0,) * len(is_valid), is_valid=is_valid), "handle")


def test_a_group_may_be_as_old_as_the_bound_and_no_older() -> None:
    guard = guards(max_staleness=2)
    guard.check_age(7, 2)
    with pytest.raises(LoopError, match="at most 2 versions old, found 3 for prompt 7"):
        guard.check_age(7, 3)


def test_failed_gradings_are_counted_over_the_whole_run() -> None:
    guard = guards(reward={"max_error_rate": 0.01})
    # 1 of the first 100, or of fewer, is within the limit; the second is not.
    guard.check_graders([ready(True, False)])
    guard.check_graders([ready(True, True)])
    with pytest.raises(LoopError, match=r"share of 0\.01 .* found 2 of 6"):
        guard.check_graders([ready(False, True)])


def test_more_gradings_allow_more_failures() -> None:
    guard = guards(reward={"max_error_rate": 0.01})
    guard.check_graders([ready(*(True,) * 198, False, False)])  # 2 of 200
    with pytest.raises(LoopError, match="found 3 of 201"):
        guard.check_graders([ready(False)])


def test_batches_in_a_row_without_a_group_to_train_stop_a_run() -> None:
    guards().check_signal(MAX_EMPTY_BATCHES - 1)
    with pytest.raises(LoopError, match=f"found none in {MAX_EMPTY_BATCHES} batches in a row"):
        guards().check_signal(MAX_EMPTY_BATCHES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_loss_and_gradient_norm_must_be_numbers(name: str, value: float) -> None:
    guards().check_finite(train_report(), 4)
    with pytest.raises(LoopError, match=f"found {name}={value} at step 4"):
        guards().check_finite(train_report(**{name: value}), 4)


def report(current: float, older: float, *, num_current: int, num_older: int) -> TrainReport:
    """What a learner reports of so many tokens of either kind."""
    num_tokens = num_current + num_older
    return train_report(
        logprob_difference=(current * num_current + older * num_older) / num_tokens,
        current_difference=current,
        num_current=num_current,
        num_tokens=num_tokens,
    )


def test_both_sides_may_differ_by_the_tolerance_and_no_more() -> None:
    guard = guards(algorithm={"parity_tolerance": 0.25})
    guard.check_parity(report(0.25, 0, num_current=3, num_older=0), 1)
    for difference in (0.26, math.nan, math.inf):
        with pytest.raises(LoopError, match=r"of the same weights to 0\.25 nats"):
            guard.check_parity(report(difference, 0, num_current=3, num_older=0), 1)


@pytest.mark.parametrize("max_staleness", [1, 2, 5])
@pytest.mark.parametrize("difference", [0.6, 3.0, math.nan, math.inf])
def test_a_mismatch_is_found_where_all_tokens_are_of_older_weights(
    max_staleness: int, difference: float
) -> None:
    guard = guards(max_staleness=max_staleness)
    guard.check_parity(report(0, 0.4, num_current=0, num_older=9), 1)
    with pytest.raises(LoopError, match=r"weights of earlier steps to 0\.5 nats .* at step 2"):
        guard.check_parity(report(0, difference, num_current=0, num_older=9), 2)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_few_tokens_of_the_present_weights_are_judged_with_those_of_later_steps(
    share: float,
) -> None:
    guard, num_current = guards(max_staleness=1), int(60 * share)
    mixed = report(1e-3, 0.2, num_current=num_current, num_older=60 - num_current)
    steps = -(-PARITY_TOKENS // num_current)
    for step in range(1, steps):
        guard.check_parity(mixed, step)
    with pytest.raises(LoopError, match=rf"the same weights to 1e-05 nats .* at step {steps}"):
        guard.check_parity(mixed, steps)


def test_tokens_of_older_weights_hide_no_mismatch_of_the_present_ones() -> None:
    guard = guards(max_staleness=2)
    with pytest.raises(LoopError, match="the same weights"):
        guard.check_parity(report(1e-2, 1e-7, num_current=200, num_older=9000), 7)
