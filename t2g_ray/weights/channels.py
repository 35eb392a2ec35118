"""A bucket of tensors <-> one array on their device, and two ways to send it without leaving that.

A `Link` is a group of processes: the first one sends, and every worker of a sampler receives, by
NCCL between GPUs and Gloo between CPUs. A `SharedBucket` is memory that a process on the same
device opens: CUDA IPC, and on a CPU the file of a memory area.

Invariant: a stream announces what comes, so that sender and receivers make the same calls; a
process that fails leaves the link, and the others then fail too, at the latest after the timeout of
the `Rendezvous`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from t2g_ray.weights.manifest import TensorEntry, bytes_of, describe, in_buckets, outline

ALIGNMENT = 16
"""In bytes; a tensor of any dtype may start at a multiple of it."""

_BLOCKING_WAIT = "TORCH_NCCL_BLOCKING_WAIT"

FlatBucket = tuple[Tensor, tuple[TensorEntry, ...]]
"""The bytes of tensors one after the other, each aligned, and the entries that describe them."""


def flat_buckets(
    tensors: Iterable[tuple[str, Tensor]], *, bucket_bytes: int, is_proven: bool
) -> Iterator[FlatBucket]:
    """Copies of the tensors, a bucket at a time, on their device.

    The entries have digests only with `is_proven`, for which all bytes go to the CPU.
    """
    for number, part in enumerate(in_buckets(tensors, bucket_bytes=bucket_bytes)):
        entries = tuple(
            describe(name, tensor, bytes_of(tensor), bucket=number)
            if is_proven
            else outline(name, tensor, bucket=number)
            for name, tensor in part
        )
        yield _flatten([tensor for _, tensor in part], entries), entries


def _flatten(tensors: Sequence[Tensor], entries: Sequence[TensorEntry]) -> Tensor:
    size = sum(_aligned(entry.num_bytes) for entry in entries)
    flat = torch.empty(size, dtype=torch.uint8, device=tensors[0].device)
    for place, tensor in zip(_places(flat, entries), tensors, strict=True):
        place.copy_(tensor.detach().contiguous().flatten().view(torch.uint8))
    return flat


def unflatten(flat: Tensor, entries: Sequence[TensorEntry]) -> list[Tensor]:
    """Views of the entries' tensors."""
    return [
        place.view(getattr(torch, entry.dtype)).view(entry.shape)
        for place, entry in zip(_places(flat, entries), entries, strict=True)
    ]


def _places(flat: Tensor, entries: Sequence[TensorEntry]) -> Iterator[Tensor]:
    start = 0
    for entry in entries:
        yield flat[start : start + entry.num_bytes]
        start += _aligned(entry.num_bytes)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class SharedBucket:
    """What it takes to open an array in another process's memory."""

    num_bytes: int
    handle: bytes

    def open(self) -> Tensor:
        """The array; on a GPU this is the offered memory itself."""
        where = pickle.loads(self.handle)
        if isinstance(where, Tensor):
            return where
        return torch.from_file(where, shared=False, size=self.num_bytes, dtype=torch.uint8)


def offer(flat: Tensor) -> tuple[SharedBucket, Any]:
    """Let processes on the array's device open it, for as long as the second result is kept."""
    if flat.device.type != "cpu":
        return SharedBucket(flat.numel(), bytes(ForkingPickler.dumps(flat))), flat
    # Memory without a name in the file system goes away with its owner, even if that is killed.
    memory = os.fdopen(os.memfd_create("t2g-weights"), "wb")
    memory.write(flat.numpy().data)
    memory.flush()
    path = f"/proc/{os.getpid()}/fd/{memory.fileno()}"
    return SharedBucket(flat.numel(), pickle.dumps(path)), memory


def device_key(device: torch.device) -> str:
    """Equal for two processes of a node if, and only if, they compute on the same device."""
    if device.type == "cpu":
        return "cpu"
    # Each process numbers its GPUs in its own way.
    return str(torch.cuda.get_device_properties(device).uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """Where the processes of a link find each other."""

    address: str
    port: int
    size: int
    """Processes, the sender included."""
    timeout_s: float
    """For the rendezvous and for every message."""


class Link:
    """This process's end. Raises torch's DistError or RuntimeError when another end is gone."""

    def __init__(self, rendezvous: Rendezvous, *, rank: int, device: torch.device) -> None:
        timeout = timedelta(seconds=rendezvous.timeout_s)
        store = dist.TCPStore(  # type: ignore[attr-defined]
            rendezvous.address,
            rendezvous.port,
            rendezvous.size,
            is_master=rank == 0,
            timeout=timeout,
        )
        # A group of its own, beside the default one that both DeepSpeed and vLLM claim.
        self._group: Any = (
            _nccl_group(store, rank, rendezvous.size, timeout)
            if device.type == "cuda"
            else dist.ProcessGroupGloo(store, rank, rendezvous.size, timeout)
        )
        self._device = device

    def send(self, buckets: Iterable[FlatBucket]) -> Iterator[tuple[TensorEntry, ...]]:
        """Send buckets as they come, each after its entries, and then a mark of the end."""
        for flat, entries in buckets:
            header = _as_bytes(entries).to(self._device)
            self._broadcast(self._sizes(header.numel(), flat.numel()))
            self._broadcast(header)
            self._broadcast(flat)
            yield entries
        self._broadcast(self._sizes(0, 0))

    def receive(self) -> Iterator[FlatBucket]:
        """The buckets of one `send`."""
        while True:
            num_header, num_bytes = self._broadcast(self._sizes(0, 0)).tolist()
            if not num_header:
                return
            header = self._broadcast(self._empty(num_header))
            flat = self._broadcast(self._empty(num_bytes))
            yield flat, pickle.loads(header.cpu().numpy().tobytes())

    def _sizes(self, *values: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def _empty(self, num_bytes: int) -> Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8, device=self._device)

    def _broadcast(self, tensor: Tensor) -> Tensor:
        self._group.broadcast(tensor, 0).wait()
        return tensor


def _nccl_group(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    """A group whose waits raise DistBackendError for a peer that is gone or late.

    By default a wait returns at once, and a watchdog thread ends the whole process when a peer
    fails. A group that is made with blocking waits has no such thread: each wait looks at NCCL's
    state until the message has come, NCCL reports an error, or the timeout is over, and then ends
    the communicator and raises (torch 2.13, ProcessGroupNCCL::WorkNCCL::wait). The setting is read
    when a group is made, so groups of others keep theirs. Not yet run on a GPU.
    """
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = timeout
    before = os.environ.get(_BLOCKING_WAIT)
    os.environ[_BLOCKING_WAIT] = "1"
    try:
        return dist.ProcessGroupNCCL(store, rank, size, options)
    finally:
        if before is None:
            del os.environ[_BLOCKING_WAIT]
        else:
            os.environ[_BLOCKING_WAIT] = before


def _as_bytes(entries: tuple[TensorEntry, ...]) -> Tensor:
    return torch.frombuffer(bytearray(pickle.dumps(entries)), dtype=torch.uint8)
