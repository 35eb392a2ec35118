"""Tensors whose storages leave and come back: every view of them is the same afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from t2g_ray.learner.turns.parking import Parking, held_by


def test_a_parked_storage_has_no_bytes_and_every_view_of_it_comes_back() -> None:
    flat = torch.randn(30)
    views = [flat, flat[7:19], flat[7:19].view(3, 4).t()]
    other = torch.arange(5, dtype=torch.int64)
    before = [view.clone() for view in views]
    parking, hosts = Parking(), list[int]()
    for _ in range(2):
        parking.park([flat, views[1], other])
        assert parking.is_full
        assert parking.num_bytes == 30 * 4 + 5 * 8
        assert [t.untyped_storage().nbytes() for t in (*views, other)] == [0, 0, 0, 0]
        hosts += [host.data_ptr() for host in parking._hosts]
        parking.bring_back()
        assert all(torch.equal(*pair) for pair in zip(views, before, strict=True))
        assert torch.equal(other, torch.arange(5))
    assert hosts[:2] == hosts[2:]  # host memory serves again
    assert not parking.is_full
    assert parking.num_bytes == 0


def test_storages_of_other_sizes_get_memory_of_their_own_size() -> None:
    parking = Parking()
    for sizes in ((4, 2), (4, 3, 1), (1,)):
        tensors = [torch.full((size,), float(size)) for size in sizes]
        parking.park(tensors)
        assert parking.num_bytes == 4 * sum(sizes)
        parking.bring_back()
        assert [t.tolist() for t in tensors] == [[float(size)] * size for size in sizes]


def test_an_optimiser_that_holds_nothing_on_the_device_leaves_and_returns_too() -> None:
    parking = Parking()
    for _ in range(2):
        parking.park([])
        assert parking.is_full
        assert parking.num_bytes == 0
        with parking.readable():
            pass
        parking.bring_back()
        assert not parking.is_full


def test_what_changed_between_two_turns_is_what_comes_back() -> None:
    tensor, parking = torch.zeros(4), Parking()
    for turn in range(3):
        tensor += 1
        parking.park([tensor])
        parking.bring_back()
        assert tensor.tolist() == [turn + 1] * 4


def test_parked_tensors_can_be_read_where_they_wait(tmp_path: Path) -> None:
    first, flat = torch.ones(3), torch.arange(40, dtype=torch.float32)
    view = flat[10:30].view(4, 5).t()
    expected = view.clone()
    parking = Parking()
    parking.park([first, flat, view])
    with parking.readable():
        assert torch.equal(view, expected)
        assert flat.tolist() == list(range(40))
        torch.save(flat, tmp_path / "flat.pt")
    assert view.untyped_storage().nbytes() == 0
    assert torch.load(tmp_path / "flat.pt").tolist() == list(range(40))
    assert (tmp_path / "flat.pt").stat().st_size < 40 * 4 + 2000  # its own bytes alone
    parking.bring_back()
    assert torch.equal(view, expected)
    with parking.readable():  # nothing is parked: nothing to do
        assert torch.equal(view, expected)


def test_tensors_read_from_a_file_are_parked_too(tmp_path: Path) -> None:
    flat = torch.arange(12.0)
    torch.save({"flat": flat, "view": flat[2:8]}, tmp_path / "flat.pt")
    read = torch.load(tmp_path / "flat.pt")
    assert not read["flat"].untyped_storage().resizable()
    parking = Parking()
    parking.park(read.values())
    assert [t.untyped_storage().nbytes() for t in read.values()] == [0, 0]
    assert parking.num_bytes == 12 * 4  # still one storage
    parking.bring_back()
    assert torch.equal(read["flat"], flat)
    assert torch.equal(read["view"], flat[2:8])


def test_parking_twice_and_returning_twice_are_refused() -> None:
    parking = Parking()
    with pytest.raises(RuntimeError, match="found none parked"):
        parking.bring_back()
    parking.park([torch.ones(2)])
    with pytest.raises(RuntimeError, match="found them parked"):
        parking.park([torch.ones(2)])


@dataclass
class Bucket:
    """As DeepSpeed keeps its buckets."""

    buffer: torch.Tensor
    names: list[str] = field(default_factory=list)


class Around:
    """An optimiser around torch's, with what those of DeepSpeed keep."""

    def __init__(self, module: nn.Module, inner: torch.optim.Optimizer) -> None:
        self.optimizer, self.module = inner, module
        self.master = [torch.zeros(8, requires_grad=True)]
        self.master[0].grad = torch.ones(8)
        self.sums = {0: [torch.ones(8)]}
        self.views = {0: [self.sums[0][0][:3]]}
        self.buckets = {torch.float32: Bucket(torch.empty(16))}
        self.weights = list(module.parameters())
        self.meta = torch.empty(9, device="meta")
        self.again: Any = self.sums


def test_all_that_an_optimiser_holds_is_found_and_nothing_that_the_model_reads() -> None:
    module = nn.Linear(4, 2)
    module.weight.grad = torch.ones(2, 4)
    module.register_buffer("scale", torch.ones(3))
    inner = torch.optim.AdamW(module.parameters())
    module.bias.grad = torch.ones(2)
    inner.step()
    around = Around(module, inner)
    module.bias.ds_tensor = shard = torch.ones(7)  # type: ignore[attr-defined]
    around.weights.append(nn.Parameter(shard.view(7)))
    found = held_by(around, module)
    places = {t.untyped_storage()._cdata for t in found}
    moments = [t for state in inner.state.values() for t in state.values()]
    expected = [
        *moments,
        *around.master,
        around.master[0].grad,
        around.sums[0][0],
        around.buckets[torch.float32].buffer,
        module.weight.grad,
        module.bias.grad,
    ]
    assert places == {t.untyped_storage()._cdata for t in expected}
