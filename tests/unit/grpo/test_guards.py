"""What stops a run: each guard at its limit and just beyond it."""

from __future__ import annotations

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.guards import MAX_EMPTY_STEPS, Guards
from t2g_ray.grpo.stages import LoopError, Ready
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


def test_only_steps_in_a_row_without_a_group_to_train_stop_a_run() -> None:
    guard = guards()
    for _ in range(MAX_EMPTY_STEPS - 1):
        guard.check_signal(0)
    guard.check_signal(1)
    for _ in range(MAX_EMPTY_STEPS - 1):
        guard.check_signal(0)
    with pytest.raises(LoopError, match=f"found none in {MAX_EMPTY_STEPS} steps in a row"):
        guard.check_signal(0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_loss_and_gradient_norm_must_be_numbers(name: str, value: float) -> None:
    guards().check_finite(train_report(), 4)
    with pytest.raises(LoopError, match=f"found {name}={value} at step 4"):
        guards().check_finite(train_report(**{name: value}), 4)


def test_both_sides_may_differ_by_the_tolerance_and_no_more() -> None:
    guard = guards(algorithm={"parity_tolerance": 0.25})
    guard.check_parity(train_report(logprob_difference=0.25), 1)
    for difference in (0.26, float("nan")):
        with pytest.raises(LoopError, match=r"to 0\.25 nats"):
            guard.check_parity(train_report(logprob_difference=difference), 1)
