"""Sums and maxima of micro-batches, added up over updates and over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from t2g_ray.algorithm.loss import MAXIMUM
from t2g_ray.learner.totals import Totals


@dataclass(frozen=True)
class Sums:
    loss: torch.Tensor
    ratio: torch.Tensor = field(metadata=MAXIMUM)


@dataclass(frozen=True)
class OnlySums:
    loss: torch.Tensor


def sums(loss: float, ratio: float) -> Sums:
    return Sums(torch.tensor(loss), torch.tensor(ratio))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """The one rank of a group."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_sums_add_up_and_of_maxima_the_largest_stays(alone: None) -> None:
    totals = Totals(Sums)
    for loss, ratio in ((0.5, 1.5), (0.25, 4.0), (2.0, 3.0)):
        totals.add(sums(loss, ratio), weight=1)
    found = totals.over_ranks()
    assert (float(found.loss), float(found.ratio)) == (2.75, 4.0)


def test_a_filler_counts_for_nothing(alone: None) -> None:
    totals = Totals(Sums)
    totals.add(sums(0.5, 2.0), weight=1)
    totals.add(sums(100.0, 100.0), weight=0)
    found = totals.over_ranks()
    assert (float(found.loss), float(found.ratio)) == (0.5, 2.0)


def test_sums_are_kept_in_double_precision(alone: None) -> None:
    totals = Totals(OnlySums)
    for value in (2.0**24, 1.0, 1.0):  # in float32, 2^24 + 1 is 2^24
        totals.add(OnlySums(torch.tensor(value)), weight=1)
    assert float(totals.over_ranks().loss) == 2.0**24 + 2


def test_ranks_are_added_up_and_their_maxima_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_another_rank(values: torch.Tensor, op: dist.ReduceOp) -> None:
        """The other rank has 3.0 of everything."""
        values.copy_(values + 3.0 if op == dist.ReduceOp.SUM else values.clamp(min=3.0))

    monkeypatch.setattr(dist, "all_reduce", with_another_rank)
    totals = Totals(Sums)
    totals.add(sums(0.5, 2.0), weight=1)
    found = totals.over_ranks()
    assert (float(found.loss), float(found.ratio)) == (3.5, 3.0)
