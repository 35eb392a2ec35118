"""The number of rollout actors that balances a learner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.planning.speed.balance import balance, fewest
from tests.unit.planning.parts import grpo


def test_the_balance_is_where_the_samplers_side_first_takes_no_longer() -> None:
    assert balance(grpo(), lambda count: 60 / count, 7.0) == (9, ())
    assert balance(grpo(), lambda count: 60 / count, 60.0) == (1, ())


def test_where_no_number_is_fast_enough_the_reason_is_said() -> None:
    count, (why,) = balance(grpo(prompts_per_step=8), lambda count: 5 + 60 / count, 7.0)
    assert count is None
    assert "one for each group, 8, the longest answers still take 12.5 s" in why


def test_more_groups_in_flight_have_room_for_more_actors() -> None:
    config = grpo(prompts_per_step=8, max_staleness=3)
    assert balance(config, lambda count: 5 + 60 / count, 7.0) == (30, ())


def test_engines_on_the_learners_devices_cannot_be_added() -> None:
    config = grpo(colocate="time", rollout={"gpus": 0.5}, learner={"gpus": 0.5})
    count, (why,) = balance(config, lambda count: 60 / count, 7.0)
    assert count is None and "on the learner's devices" in why


def test_actors_that_share_cores_may_be_fast_enough_until_there_are_too_many() -> None:
    seconds = {1: 30.0, 2: 17.0, 3: 14.0, 4: 11.0, 5: 13.0, 6: 15.0, 7: 17.0, 8: 19.0}
    config = grpo(prompts_per_step=8)
    assert balance(config, seconds.__getitem__, 14.5) == (3, ())
    count, (why,) = balance(config, seconds.__getitem__, 10.0)
    assert count is None
    assert "with 4, beyond which they wait for cores, the longest answers still take 11 s" in why


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_fewest_is_the_first_that_is_enough(threshold: int, most: int) -> None:
    expected = threshold if threshold <= most else None
    assert fewest(lambda number: number >= threshold, most) == expected


@pytest.mark.parametrize("most", [1, 2])
def test_small_numbers_are_tried_all(most: int) -> None:
    assert fewest(lambda number: True, most) == 1
