"""Named tensors -> buckets of bytes with a manifest -> named tensors, and proof that they agree.

A manifest describes every tensor of one version: where its bytes lie, a digest of those bytes,
and a sketch. The digest shows that the bytes arrived. The sketch u.(W x) shows what a layer
really computes: a sampler that keeps a packed copy of an old matrix passes every comparison of
bytes and fails this one.

Invariant: one tensor of the learner is one entry, tied weights appear once, and the number of
buckets, not of tensors, decides how many objects are sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import xxhash

ByteArray = npt.NDArray[np.uint8]
MIB = 1024 * 1024


class WeightSyncError(RuntimeError):
    """A sampler does not hold the weights that the learner sent."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: its place in the buckets and what must hold after it was loaded."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bucket: int
    offset: int
    num_bytes: int
    digest: str
    sketch: float
    scale: float
    """|u| |W x|: the sketch's own size, against which a difference is judged."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All tensors of one version of the policy, in the order of the buckets."""

    version: int
    entries: tuple[TensorEntry, ...]
    num_buckets: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(entry.num_bytes for entry in self.entries)


def probe_vector(length: int, phase: float) -> torch.Tensor:
    """A fixed vector [length] in fp32, the same on every machine, with no structure of weights."""
    steps = torch.arange(length, dtype=torch.float64)
    return torch.cos(steps * 1.6180339887498949 + phase).to(torch.float32)


def left_probe(num_rows: int) -> torch.Tensor:
    """u of the sketch, [num_rows]."""
    return probe_vector(num_rows, 0.3)


def right_probe(num_columns: int) -> torch.Tensor:
    """x of the sketch, [num_columns]."""
    return probe_vector(num_columns, 1.1)


def sketch_of(product: torch.Tensor) -> tuple[float, float]:
    """(u.y, |u| |y|) of y = W x, [rows]; in fp64 so that the sum adds no error of its own."""
    y = product.detach().to("cpu", torch.float64)
    u = left_probe(y.numel()).to(torch.float64)
    return float(u @ y), float(u.norm() * y.norm())


def digest_of(data: ByteArray) -> str:
    """xxh3 (64 bits) of raw bytes; finds faults, does not withstand an attacker."""
    return xxhash.xxh3_64_hexdigest(data.data)


def bytes_of(tensor: torch.Tensor) -> ByteArray:
    """The tensor's memory as bytes on the CPU, without a copy where it already lies there."""
    flat = tensor.detach().to("cpu").contiguous().flatten()
    result: ByteArray = flat.view(torch.uint8).numpy()
    return result


def tensor_from_bytes(data: ByteArray, entry: TensorEntry) -> torch.Tensor:
    """View the entry's bytes as its tensor; `data` is the entry's bucket."""
    window = data[entry.offset : entry.offset + entry.num_bytes]
    return torch.from_numpy(window).view(getattr(torch, entry.dtype)).view(entry.shape)


def describe(name: str, tensor: torch.Tensor, *, bucket: int, offset: int) -> TensorEntry:
    """Entry of one tensor; matrices get a sketch."""
    sketch, scale = 0.0, 0.0
    if tensor.ndim == 2:
        matrix = tensor.detach().to(torch.float32)
        sketch, scale = sketch_of(matrix @ right_probe(matrix.shape[1]).to(matrix.device))
    data = bytes_of(tensor)
    return TensorEntry(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        bucket=bucket,
        offset=offset,
        num_bytes=data.nbytes,
        digest=digest_of(data),
        sketch=sketch,
        scale=scale,
    )


def pack_buckets(
    tensors: Iterable[tuple[str, torch.Tensor]], *, bucket_bytes: int
) -> Iterator[tuple[ByteArray, tuple[TensorEntry, ...]]]:
    """Fill buckets in order; each is yielded when full, so that only one is held in memory.

    A tensor never straddles two buckets: one larger than a bucket gets its own.
    """
    parts: list[ByteArray] = []
    entries: list[TensorEntry] = []
    used, index = 0, 0
    for name, tensor in tensors:
        num_bytes = tensor.numel() * tensor.element_size()
        if parts and used + num_bytes > bucket_bytes:
            yield _join(parts), tuple(entries)
            parts, entries, used, index = [], [], 0, index + 1
        entries.append(describe(name, tensor, bucket=index, offset=used))
        # 16-byte alignment lets every dtype be viewed in place on the other side.
        padding = -num_bytes % 16
        parts.append(bytes_of(tensor))
        if padding:
            parts.append(np.zeros(padding, dtype=np.uint8))
        used += num_bytes + padding
    if parts:
        yield _join(parts), tuple(entries)


def _join(parts: list[ByteArray]) -> ByteArray:
    joined: ByteArray = np.concatenate(parts)
    return joined


def check_received(data: ByteArray, entries: Iterable[TensorEntry]) -> None:
    """Compare the digest of every tensor in a bucket; raises WeightSyncError by name."""
    for entry in entries:
        window = data[entry.offset : entry.offset + entry.num_bytes]
        found = digest_of(window)
        if found != entry.digest:
            raise WeightSyncError(
                f"tensor {entry.name} must arrive with digest {entry.digest}, found {found}: "
                "its bytes changed between learner and sampler; the run stops before they are used"
            )


def check_sketch(entry: TensorEntry, product: torch.Tensor, *, tolerance: float) -> None:
    """Compare what a layer computes for the probe, [rows], with the learner's sketch."""
    found, _ = sketch_of(product)
    # An all-zero matrix has scale 0 and must give exactly 0.
    if not math.isclose(found, entry.sketch, rel_tol=0.0, abs_tol=tolerance * entry.scale):
        raise WeightSyncError(
            f"the layer of tensor {entry.name} must compute with the weights just sent "
            f"(sketch {entry.sketch:.8g}), found {found:.8g}: the sampler still uses other "
            "weights, for instance a packed copy of an older version"
        )
