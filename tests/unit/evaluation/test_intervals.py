"""Intervals by bootstrap, where the distribution is known."""

import pytest

from t2g_ray.evaluation.intervals import mean_paired_interval, paired_interval
from t2g_ray.graph.counts import Counts, GraphCounts


def counts(entities: tuple[int, int, int], relations: tuple[int, int, int]) -> GraphCounts:
    return GraphCounts(Counts(*entities), Counts(*relations))


def test_equal_records_leave_no_doubt_about_the_change() -> None:
    before = [counts((1, 1, 1), (0, 0, 2))] * 7  # F1 0.5 and 0.0
    after = [counts((2, 0, 0), (1, 1, 1))] * 7  # F1 1.0 and 0.5
    interval = paired_interval(before, after, seed=0)
    assert interval == {
        "f1/entities": (0.5, 0.5),
        "f1/relations": (0.5, 0.5),
        "f1/mean": (0.5, 0.5),
    }


def test_the_sides_are_paired_so_that_unlike_records_with_one_result_give_no_change() -> None:
    mixed = [counts((i % 3, 0, 1), (0, i % 2, 1)) for i in range(20)]
    interval = paired_interval(mixed, mixed, seed=3)
    assert set(interval.values()) == {(0.0, 0.0)}


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    silent, noisy = [counts((0, 0, 0), (0, 0, 0))] * 3, [counts((0, 1, 0), (0, 1, 0))] * 3
    assert paired_interval(noisy, silent, seed=0)["f1/mean"] == (1.0, 1.0)


def test_a_seed_gives_one_interval() -> None:
    before = [counts((i % 2, 1, 0), (0, 0, 1)) for i in range(9)]
    after = [counts((1, i % 2, 0), (i % 3, 0, 1)) for i in range(9)]
    first = paired_interval(before, after, seed=5)
    assert paired_interval(before, after, seed=5) == first
    assert paired_interval(before, after, seed=6) != first


def test_the_mean_change_of_several_pairs_has_an_interval_of_its_own() -> None:
    none, all_ = [counts((0, 0, 1), (0, 0, 1))], [counts((1, 0, 0), (1, 0, 0))]
    interval = mean_paired_interval([(none, all_), (all_, all_)], seed=0)
    assert interval["f1/mean"] == (0.5, 0.5)
    mixed = [counts((i % 2, 0, 1 - i % 2), (0, 0, 0)) for i in range(40)]
    ones = [counts((1, 0, 0), (0, 0, 0))] * 40
    (low, high), (low_4, high_4) = (
        mean_paired_interval([(mixed, ones)] * number, seed=0)["f1/entities"] for number in (1, 4)
    )
    # Four independent draws: half the spread.
    assert (high_4 - low_4) / (high - low) == pytest.approx(0.5, abs=0.1)


def test_unpaired_sides_are_refused() -> None:
    one = counts((1, 0, 0), (1, 0, 0))
    with pytest.raises(ValueError, match=r"same records.*found 1 and 2"):
        paired_interval([one], [one, one], seed=0)
