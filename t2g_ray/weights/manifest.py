"""Named tensors -> buckets of bytes with a manifest -> named tensors, and proof that they agree.

A manifest describes every tensor of one version: which bucket holds it and a digest of its bytes,
which shows that they arrived. What a sampler makes of them is `proof`'s; the probes are vectors
whose products with matrices show what is computed.

Invariant: one tensor of the learner is one entry, tied weights appear once, and the number of
buckets, not of tensors, decides how many objects are sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import xxhash

ByteArray = npt.NDArray[np.uint8]
Bucket = list[ByteArray]
"""The bytes of tensors that are sent together, each an array of its own: putting them into one
would copy them once more."""
MIB = 1024 * 1024


class WeightSyncError(RuntimeError):
    """A sampler does not hold the weights that the learner sent."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: the bucket that holds it and what must hold after it was loaded."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bucket: int
    num_bytes: int
    digest: str = ""
    """Empty where nothing is compared."""


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

    def of_bucket(self, number: int) -> tuple[TensorEntry, ...]:
        """The tensors of one bucket, in its order."""
        return tuple(entry for entry in self.entries if entry.bucket == number)


def probe_vector(length: int, phase: float) -> torch.Tensor:
    """A fixed vector [length] in fp32, the same on every machine, unrelated to any structure of
    weights."""
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
    """xxh3 (64 bits) of raw bytes; it finds faults and does not withstand an attacker."""
    return xxhash.xxh3_64_hexdigest(data.data)


def bytes_of(tensor: torch.Tensor) -> ByteArray:
    """The tensor's memory as bytes on the CPU, without a copy where it already lies there."""
    flat = tensor.detach().to("cpu").contiguous().flatten()
    result: ByteArray = flat.view(torch.uint8).numpy()
    return result


def tensor_from_bytes(data: ByteArray, entry: TensorEntry) -> torch.Tensor:
    """View the entry's bytes as its tensor."""
    return torch.from_numpy(data).view(getattr(torch, entry.dtype)).view(entry.shape)


def outline(name: str, tensor: torch.Tensor, *, bucket: int) -> TensorEntry:
    """Entry of one tensor, without a digest."""
    return TensorEntry(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        bucket=bucket,
        num_bytes=tensor.numel() * tensor.element_size(),
    )


def describe(name: str, tensor: torch.Tensor, data: ByteArray, *, bucket: int) -> TensorEntry:
    """Entry of one tensor, whose bytes are `data`."""
    return replace(outline(name, tensor, bucket=bucket), digest=digest_of(data))


def in_buckets(
    tensors: Iterable[tuple[str, torch.Tensor]], *, bucket_bytes: int
) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Fill buckets in order; each is yielded when full, so that only one is held in memory.

    A tensor never straddles two buckets: one larger than a bucket gets its own.
    """
    bucket: list[tuple[str, torch.Tensor]] = []
    used = 0
    for name, tensor in tensors:
        num_bytes = tensor.numel() * tensor.element_size()
        if bucket and used + num_bytes > bucket_bytes:
            yield bucket
            bucket, used = [], 0
        bucket.append((name, tensor))
        used += num_bytes
    if bucket:
        yield bucket


def pack_buckets(
    tensors: Iterable[tuple[str, torch.Tensor]], *, bucket_bytes: int
) -> Iterator[tuple[Bucket, tuple[TensorEntry, ...]]]:
    """Buckets as bytes on the CPU, with digests.

    Arrays share the memory of tensors that lie on the CPU: use a bucket before the tensors change.
    """
    for number, part in enumerate(in_buckets(tensors, bucket_bytes=bucket_bytes)):
        bucket = [bytes_of(tensor) for _, tensor in part]
        entries = (
            describe(name, tensor, data, bucket=number)
            for (name, tensor), data in zip(part, bucket, strict=True)
        )
        yield bucket, tuple(entries)


def check_received(bucket: Bucket, entries: Sequence[TensorEntry]) -> None:
    """Compare the digest of every tensor in a bucket; raises WeightSyncError by name."""
    if len(bucket) != len(entries):
        raise WeightSyncError(
            f"a bucket must hold the {len(entries)} tensors that the manifest has in it, found "
            f"{len(bucket)}; the first of them is {entries[0].name if entries else 'none'}"
        )
    for data, entry in zip(bucket, entries, strict=True):
        found = digest_of(data)
        if found != entry.digest:
            raise WeightSyncError(
                f"tensor {entry.name} must arrive with digest {entry.digest}, found {found}: "
                "its bytes changed between learner and sampler; the run stops before they are used"
            )
