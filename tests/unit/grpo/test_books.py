"""Books that must balance at the end of every step."""

from __future__ import annotations

import dataclasses

import pytest

from t2g_ray.grpo.books import Books, ConservationError, Stock
from tests.unit.parts import group_summary

A = group_summary(
    version=4,
    lengths=(10, 20),
    prompt_tokens=7,
    is_truncated=(False, True),
    entities=(2, 0, 1),
    relations=(0, 1, 1),
    generate_s=0.5,
)


# Equal rewards: no signal.
B = dataclasses.replace(
    A,
    index=1,
    rewards=(1.0, 1.0),
    f1=(1.0, 1.0),
    lengths=(5, 5),
    num_parsed=2,
    parts={"json": 1.0},
    min_version=3,
    tokens_by_version={3: 10},
)


# One of three completions was not graded; two versions behind.
C = dataclasses.replace(
    A,
    index=2,
    rewards=(2.0, 0.0, 0.0),
    f1=(1.0, 0.0, 0.0),
    is_valid=(True, False, True),
    lengths=(4, 40, 6),
    is_truncated=(False,) * 3,
    parts={"json": 0.25},
    entities=(0, 0, 3),
    min_version=2,
    tokens_by_version={2: 6, 3: 4},
)


def stock(arrived: tuple[int, int], waiting: tuple[int, int]) -> Stock:
    return Stock(
        arrived_groups=arrived[0],
        arrived_tokens=arrived[1],
        waiting_groups=waiting[0],
        waiting_tokens=waiting[1],
    )


def test_books_balance_over_several_steps() -> None:
    books = Books()
    books.close_step([A, B], frozenset({0}), stock((3, 40 + 50), (1, 50)))
    books.close_step([C], frozenset(), stock((3, 90), (0, 0)))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (stock((3, 40), (0, 0)), r"groups: .*3 != 1 \+ 1 \+ 0 \(1 lost\)"),
        (stock((2, 41), (0, 0)), r"tokens: .*41 != 30 \+ 10 \+ 0 \(1 lost\)"),
        (stock((2, 40), (1, 0)), r"groups: .*\(1 counted twice\)"),
    ],
)
def test_what_was_lost_or_counted_twice_stops_the_run(found: Stock, message: str) -> None:
    with pytest.raises(ConservationError, match=message):
        Books().close_step([A, B], frozenset({0}), found)
