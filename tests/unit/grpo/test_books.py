"""Books that must balance at the end of every step."""

from __future__ import annotations

import pytest

from t2g_ray.grpo.books import Books, ConservationError, Stock
from tests.unit.grpo.parts import A, B, C


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
