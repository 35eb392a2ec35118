"""What the optimiser holds on the device <-> host memory, between two optimiser steps.

Tensors are moved by their storages: the bytes of each go to the host, then the storage shrinks to
nothing, and later it grows and is filled again. Every tensor that looks at a storage, wherever
DeepSpeed keeps it, is the same object before and after, so nothing has to be linked anew, at any
ZeRO stage. FSDP of torch frees its parameters in the same way. Not yet run on a GPU.

Invariant: a parked storage has no bytes on the device, and comes back bit for bit. What a forward
pass or a gather reads, the parameters and their shards, stays.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

REGISTERED_BYTES = 32 << 20
"""From this size on, host memory is pinned where it lies. torch's own pinned memory comes in powers
of two, up to twice of what was asked for; smaller pieces of plain memory may share a page of the
system, which cannot be pinned twice."""


def held_by(optimizer: Any, module: nn.Module) -> list[Tensor]:
    """The tensors on the module's device that the optimiser, DeepSpeed's or torch's, or a
    parameter's gradient holds and that the module does not compute with.

    Found by looking and not by name: states, master weights, sums of gradients and buckets have
    other names at each ZeRO stage and in each release.
    """
    parameters = list(module.parameters())
    kept = [*parameters, *module.buffers()]
    # Under ZeRO-3 a parameter is empty and its shard stands beside it.
    shards = [getattr(p, name, None) for p in parameters for name in _SHARDS]
    read = {_place(tensor) for tensor in (*kept, *shards) if isinstance(tensor, Tensor)}
    device = parameters[0].device
    beside = [getattr(p, name, None) for p in parameters for name in ("grad", "grad_accum")]
    return [
        tensor
        for tensor in _tensors((vars(optimizer), beside), set())
        if tensor.device == device and tensor.numel() and _place(tensor) not in read
    ]


_SHARDS = ("ds_tensor", "ds_secondary_tensor")


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors in nested containers, records, and the optimiser inside DeepSpeed's own."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
        if value.is_leaf and value.grad is not None:
            yield value.grad
    elif isinstance(value, Mapping):
        for inner in (*value.keys(), *value.values()):
            yield from _tensors(inner, seen)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _tensors(inner, seen)
    elif isinstance(value, torch.optim.Optimizer):
        yield from _tensors(vars(value), seen)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name, None), seen)


@dataclass(frozen=True, slots=True)
class _Parked:
    """A storage that is away, and its bytes."""

    storage: torch.UntypedStorage
    host: Tensor


class Parking:
    """Host memory for one rank's tensors; it is kept from turn to turn."""

    def __init__(self) -> None:
        self._hosts: list[Tensor] = []
        """Memory of earlier turns, in the order of their storages."""
        self._parked: list[_Parked] = []
        self.tensors: list[Tensor] = []
        """Those that are parked."""
        self._device = torch.device("cpu")
        self.is_full = False
        """Whether tensors are parked, if only none: an optimiser may keep all on the host."""

    @property
    def num_bytes(self) -> int:
        """Bytes that are parked."""
        return sum(parked.host.numel() for parked in self._parked)

    def park(self, tensors: Iterable[Tensor]) -> None:
        """Move the storages of these tensors off their device, which is one for all of them."""
        if self.is_full:
            raise RuntimeError("tensors must be parked once before they return, found them parked")
        self.tensors = list(tensors)
        _make_resizable(self.tensors)
        storages = {_place(tensor): tensor.untyped_storage() for tensor in self.tensors}
        self._device = self.tensors[0].device if self.tensors else self._device
        self.is_full = True
        self._hosts = self._hosts[: len(storages)]
        for number, storage in enumerate(storages.values()):
            host = self._host(number, storage.nbytes())
            host.copy_(_bytes_of(storage), non_blocking=True)
            self._parked.append(_Parked(storage, host))
        self._wait()
        for parked in self._parked:
            parked.storage.resize_(0)
        release_memory(self._device)

    def bring_back(self) -> None:
        """Give every tensor its bytes again."""
        if not self.is_full:
            raise RuntimeError("tensors must be parked before they return, found none parked")
        for parked in self._parked:
            parked.storage.resize_(parked.host.numel())
            _bytes_of(parked.storage).copy_(parked.host, non_blocking=True)
        self._wait()
        self._parked, self.tensors, self.is_full = [], [], False

    @contextmanager
    def readable(self) -> Iterator[None]:
        """While tensors are parked, let those that were handed in show their host bytes, so that a
        checkpoint can be written. They must not be changed meanwhile."""
        hosts = {parked.storage._cdata: parked.host for parked in self._parked}
        hidden = [(tensor, tensor.data) for tensor in self.tensors]
        try:
            for tensor, empty in hidden:
                tensor.data = _like(empty, hosts[_place(empty)])
            yield
        finally:
            for tensor, empty in hidden:
                tensor.data = empty

    def _host(self, number: int, num_bytes: int) -> Tensor:
        """Memory for a storage: that of the turn before where it has the size."""
        if number < len(self._hosts) and self._hosts[number].numel() == num_bytes:
            return self._hosts[number]
        host = _host_memory(num_bytes, is_pinned=self._device.type == "cuda")
        self._hosts[number : number + 1] = [host]
        return host

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)


def release_memory(device: torch.device) -> None:
    """Give memory that no tensor holds back to the device's driver, for another process to take."""
    gc.collect()
    if device.type == "cuda":
        # Memory that another process had opened is kept until that closed it.
        torch.cuda.ipc_collect()
        torch.cuda.empty_cache()


def _make_resizable(tensors: Iterable[Tensor]) -> None:
    """Give what was read from a file, whose memory cannot shrink, memory of its own."""
    copies: dict[int, Tensor] = {}
    for tensor in tensors:
        storage, place = tensor.untyped_storage(), _place(tensor)
        if not storage.resizable():
            if place not in copies:
                copies[place] = _bytes_of(storage).clone()
            tensor.data = _like(tensor, copies[place])


def _like(tensor: Tensor, bytes_of_storage: Tensor) -> Tensor:
    """What the tensor is of its storage, of other bytes."""
    typed = bytes_of_storage.view(tensor.dtype)
    return typed.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())


def _bytes_of(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _host_memory(num_bytes: int, *, is_pinned: bool) -> Tensor:
    if not is_pinned:
        return torch.empty(num_bytes, dtype=torch.uint8)
    if num_bytes < REGISTERED_BYTES:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
    memory = torch.empty(num_bytes, dtype=torch.uint8)
    cudart: Any = torch.cuda.cudart()
    torch.cuda.check_error(int(cudart.cudaHostRegister(memory.data_ptr(), num_bytes, 0)))
    return memory
