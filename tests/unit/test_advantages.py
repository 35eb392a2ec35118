"""Advantages by hand, and what must hold for any rewards."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.advantages import ADVANTAGES, group_mean, group_std, has_signal, leave_one_out

REWARDS = [0.0, 0.0, 1.0, 3.0]  # mean 1; squared distances 1, 1, 0, 4; deviation sqrt(6 / 4)
rewards_lists = st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=16)


def test_group_mean_subtracts_the_mean() -> None:
    assert group_mean(REWARDS) == [-1.0, -1.0, 0.0, 2.0]


def test_group_std_divides_by_the_population_deviation() -> None:
    scale = 1.5**0.5 + 1e-4
    assert group_std(REWARDS) == pytest.approx([-1 / scale, -1 / scale, 0.0, 2 / scale])


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    # Others of the last: mean 1/3, so 3 - 1/3; others of the first: mean 4/3.
    assert leave_one_out(REWARDS) == pytest.approx([-4 / 3, -4 / 3, 0.0, 8 / 3])


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@settings(deadline=None)
@given(rewards=rewards_lists)
def test_advantages_sum_to_nothing_and_keep_the_order(name: str, rewards: Sequence[float]) -> None:
    advantages = ADVANTAGES[name](rewards)
    assert sum(advantages) == pytest.approx(0.0, abs=1e-3 * len(rewards))
    pairs = sorted(zip(rewards, advantages, strict=True))
    assert [advantage for _, advantage in pairs] == sorted(advantages)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_equal_rewards_give_no_advantage_and_no_signal(name: str) -> None:
    assert ADVANTAGES[name]([0.7] * 4) == pytest.approx([0.0] * 4, abs=1e-9)
    assert not has_signal([0.7] * 4)


def test_one_different_reward_is_a_signal() -> None:
    assert has_signal([0.7, 0.7, 0.7001])


def test_a_nearly_equal_group_is_not_blown_up() -> None:
    # Deviation 5e-6: without the floor the advantages would be 1 and -1.
    assert max(map(abs, group_std([0.5, 0.50001]))) < 0.05
