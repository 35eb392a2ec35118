"""Which finished groups are trained now, and which must be waited for."""

from __future__ import annotations

from t2g_ray.grpo.staleness import Due, choose


def test_the_oldest_finished_groups_are_chosen_first() -> None:
    assert choose({7, 3, 5}, 2, []) == [3, 5]
    assert choose({7}, 2, []) is None


def test_groups_whose_last_chance_this_is_are_waited_for() -> None:
    dues = [Due(frozenset({1, 2}), 1)]
    assert choose({4, 5, 6}, 2, dues) is None
    assert choose({4, 5, 2}, 2, dues) == [2, 4]
    assert choose({4, 5, 6}, 2, [Due(frozenset({1, 2}), 0)]) == [4, 5]


def test_a_late_position_that_was_admitted_early_goes_before_an_early_one() -> None:
    dues = [Due(frozenset({9}), 1), Due(frozenset({2, 3, 9}), 2)]
    assert choose({2, 3, 9}, 2, dues) == [9, 2]


def test_a_step_chooses_nothing_while_more_is_due_than_it_takes() -> None:
    assert choose({1, 2, 3}, 2, [Due(frozenset({1, 2, 3}), 3)]) is None
    assert choose({1, 2, 3}, 3, [Due(frozenset({1, 2, 3}), 3)]) == [1, 2, 3]
