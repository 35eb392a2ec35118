"""Answers of workers, and the failure among them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t2g_ray.weights.manifest import WeightSyncError
from t2g_ray.weights.worker_calls import (
    Failure,
    check_kinds,
    close_failed_update,
    on_worker,
    prove,
    raise_failure,
    worker_key,
)


def test_what_a_worker_finds_wrong_is_returned_and_other_errors_are_raised() -> None:
    def find(worker: object) -> None:
        raise WeightSyncError("tensor w")

    # No exception: vLLM would make a RuntimeError of one that another process returns.
    assert on_worker(object(), find, ()) == Failure("tensor w")
    assert on_worker("weights", "upper", ()) == "WEIGHTS"
    with pytest.raises(AttributeError):
        on_worker("weights", "update", ())


def test_the_first_rank_that_failed_is_named_where_there_are_several() -> None:
    raise_failure([None, 3])
    with pytest.raises(WeightSyncError, match=r"^tensor w$"):
        raise_failure([Failure("tensor w")])
    with pytest.raises(WeightSyncError, match=r"^rank 1 of 3: tensor w$"):
        raise_failure([None, Failure("tensor w"), Failure("tensor v")])


def test_workers_are_asked_through_their_receiver() -> None:
    receiver = SimpleNamespace(
        proof=SimpleNamespace(tensors={"a", "b"}), prove=lambda manifest: manifest or 2
    )
    worker: Any = SimpleNamespace(weight_transfer_engine=receiver, device=torch.device("cpu"))
    assert (check_kinds(worker), prove(worker), worker_key(worker)) == (2, 2, "cpu")


@pytest.mark.parametrize("is_under_way", [False, True])
def test_an_update_that_failed_is_ended_whether_or_not_vllm_thinks_that_it_goes_on(
    is_under_way: bool,
) -> None:
    done: list[str] = []

    def finish() -> None:
        done.append("finish")
        if not is_under_way:
            raise RuntimeError("finish_weight_update called without a matching start")

    receiver = SimpleNamespace(give_up=lambda: done.append("give up"))
    worker: Any = SimpleNamespace(weight_transfer_engine=receiver, finish_weight_update=finish)
    close_failed_update(worker)
    assert done == ["give up", "finish"]
