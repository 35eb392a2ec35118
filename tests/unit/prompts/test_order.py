"""The order of prompts: each record once an epoch, a pure function of the seed."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.graph import Graph
from t2g_ray.prompts.order import PromptOrder
from t2g_ray.types import Record


def record(text: str) -> Record:
    return Record(text=text, entity_types=("a",), relation_types=(), graph=Graph((), ()))


@given(st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 5))
def test_every_record_is_a_prompt_exactly_once_an_epoch(
    num_records: int, seed: int, epoch: int
) -> None:
    order = PromptOrder(num_records, seed)
    start = epoch * num_records
    seen = [order.record_index(start + offset) for offset in range(num_records)]
    assert sorted(seen) == list(range(num_records))


def test_a_resumed_order_goes_on_where_it_was() -> None:
    order = PromptOrder(17, 5)
    stream = [order.record_index(position) for position in range(100)]
    resumed = pickle.loads(pickle.dumps(order))
    assert [resumed.record_index(position) for position in reversed(range(100))] == stream[::-1]


def test_orders_differ_between_epochs_and_seeds() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        order = PromptOrder(50, seed)
        return [order.record_index(number * 50 + offset) for offset in range(50)]

    assert len({tuple(epoch(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4


def test_small_records_come_first_where_that_is_asked_for() -> None:
    sizes = (3, 1, 2, 1, 3, 2)
    order = PromptOrder(6, 5, sizes)
    epochs = [[order.record_index(6 * epoch + i) for i in range(6)] for epoch in range(20)]
    assert all([sizes[record] for record in epoch] == [1, 1, 2, 2, 3, 3] for epoch in epochs)
    # Records of one size are shuffled anew.
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_an_order_over_no_records_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        PromptOrder(0, 1)
