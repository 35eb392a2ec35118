"""Advantages by hand, and what must hold for any rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.algorithm import advantages as advantages_module
from t2g_ray.algorithm.advantages import (
    ADVANTAGES,
    batch_std,
    group_mean,
    group_mean_batch_std,
    group_std,
    has_signal,
    leave_one_out,
    plan_advantages,
)
from t2g_ray.config import AlgorithmConfig
from t2g_ray.types import GroupSummary
from tests.unit.parts import group_summary

REWARDS = [0.0, 0.0, 1.0, 3.0]  # mean 1; squared distances 1, 1, 0, 4, over 3: deviation sqrt(2)
OF_GROUP = sorted(set(ADVANTAGES) - {"batch_std"})
rewards_lists = st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=16)


def summary(
    index: int,
    rewards: Sequence[float],
    is_valid: tuple[bool, ...],
    is_truncated: tuple[bool, ...] | None = None,
) -> GroupSummary:
    truncated = is_truncated or (False,) * len(rewards)
    return group_summary(index, rewards, is_valid=is_valid, is_truncated=truncated)


def test_every_name_of_the_configuration_is_an_advantage_and_no_other() -> None:
    names = get_args(AlgorithmConfig.model_fields["advantage"].annotation)
    assert set(names) == set(ADVANTAGES)


def test_group_mean_subtracts_the_mean() -> None:
    assert group_mean([REWARDS, [1.0, 3.0]]) == [[-1.0, -1.0, 0.0, 2.0], [-1.0, 1.0]]


def test_group_std_divides_by_the_sample_deviation() -> None:
    scale = 2**0.5 + 1e-4
    (advantages,) = group_std([REWARDS])
    assert advantages == pytest.approx([-1 / scale, -1 / scale, 0.0, 2 / scale])


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    # Others of the last: mean 1/3, so 3 - 1/3; others of the first: mean 4/3.
    (advantages,) = leave_one_out([REWARDS])
    assert advantages == pytest.approx([-4 / 3, -4 / 3, 0.0, 8 / 3])


def test_batch_std_compares_with_the_whole_batch() -> None:
    # Rewards 0, 2, 4, 4, 0: mean 2; squared distances 4, 0, 4, 4, 4, over 4: deviation 2.
    advantages = batch_std([[0.0, 2.0], [4.0, 4.0, 0.0]])
    scale = 2 + 1e-4
    assert advantages[0] == pytest.approx([-2 / scale, 0.0])
    assert advantages[1] == pytest.approx([2 / scale, 2 / scale, -2 / scale])


def test_group_mean_batch_std_scales_all_groups_alike() -> None:
    # Centred -1, 1, -3, 3, 0, 0: squares 1, 1, 9, 9, 0, 0, over 5: deviation 2.
    advantages = group_mean_batch_std([[0.0, 2.0], [1.0, 7.0], [5.0, 5.0]])
    scale = 2 + 1e-4
    assert advantages[0] == pytest.approx([-1 / scale, 1 / scale])
    assert advantages[1] == pytest.approx([-3 / scale, 3 / scale])
    assert advantages[2] == [0.0, 0.0]


@pytest.mark.parametrize("name", ["batch_std", "group_mean_batch_std"])
def test_what_is_of_the_whole_batch_is_computed_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once for each group it took a driver minutes for a step of thousands of groups.
    spreads: list[int] = []

    def stdev(values: Sequence[float]) -> float:
        spreads.append(len(values))
        return 1.0

    monkeypatch.setattr(advantages_module, "stdev", stdev)
    ADVANTAGES[name]([REWARDS] * 50)
    assert spreads == [50 * len(REWARDS)]


@pytest.mark.parametrize("name", OF_GROUP)
@settings(deadline=None)
@given(batch=st.lists(rewards_lists, min_size=1, max_size=4))
def test_advantages_of_a_group_sum_to_nothing_and_keep_the_order(
    name: str, batch: list[list[float]]
) -> None:
    for rewards, advantages in zip(batch, ADVANTAGES[name](batch), strict=True):
        assert sum(advantages) == pytest.approx(0.0, abs=1e-3 * len(rewards))
        pairs = sorted(zip(rewards, advantages, strict=True))
        assert [advantage for _, advantage in pairs] == sorted(advantages)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_equal_rewards_give_no_advantage_and_no_signal(name: str) -> None:
    for advantages in ADVANTAGES[name]([[0.7] * 4, [0.7] * 3]):
        assert advantages == pytest.approx([0.0] * len(advantages), abs=1e-9)
    assert not has_signal([0.7] * 4)


def test_one_different_reward_is_a_signal() -> None:
    assert has_signal([0.7, 0.7, 0.7001])


def test_a_nearly_equal_group_is_not_blown_up() -> None:
    # Deviation 7e-6: without the floor the advantages would be 0.7 and -0.7.
    (advantages,) = group_std([[0.5, 0.50001]])
    assert max(map(abs, advantages)) < 0.05


def test_a_failed_grading_is_masked_and_counts_for_nothing() -> None:
    algorithm = AlgorithmConfig(advantage="group_mean")
    plans = plan_advantages([summary(0, (1.0, 9.0, 0.0), (True, False, True))], algorithm)
    assert plans == [(0.5, None, -0.5)]


@pytest.mark.parametrize("is_masked", [False, True])
def test_a_truncated_completion_is_compared_with_and_trained_only_where_asked(
    is_masked: bool,
) -> None:
    algorithm = AlgorithmConfig(advantage="group_mean", mask_truncated=is_masked)
    group = summary(0, (3.0, 0.0, 0.0), (True, True, True), (False, True, False))
    assert plan_advantages([group], algorithm) == [(2.0, None if is_masked else -1.0, -1.0)]


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_a_group_with_nothing_to_compare_is_masked_whole(name: str) -> None:
    algorithm = AlgorithmConfig.model_validate({"advantage": name})
    alone = summary(0, (1.0, 0.0), (True, False))
    assert plan_advantages([alone], algorithm) == [(None, None)]
    plans = plan_advantages([alone, summary(1, (1.0, 0.0), (True, True))], algorithm)
    assert plans[0] == (None, None)
    assert plans[1][0] == pytest.approx(-plans[1][1])  # type: ignore[operator]


def test_a_group_of_equal_rewards_teaches_only_where_the_whole_batch_is_compared() -> None:
    groups = [summary(0, (1.0, 1.0), (True, True)), summary(1, (0.0, 1.0), (True, True))]
    assert plan_advantages(groups, AlgorithmConfig(advantage="group_std"))[0] == (None, None)
    # Rewards 1, 1, 0, 1: mean 0.75, squared distances 3 x 1/16 and 9/16, over 3: deviation 0.5.
    first = plan_advantages(groups, AlgorithmConfig(advantage="batch_std"))[0]
    assert first == pytest.approx((0.25 / 0.5001, 0.25 / 0.5001))
