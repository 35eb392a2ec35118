"""Tensors -> buckets -> tensors; digests that name what is wrong."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.weights.manifest import (
    Bucket,
    Manifest,
    TensorEntry,
    WeightSyncError,
    bytes_of,
    check_received,
    digest_of,
    left_probe,
    pack_buckets,
    probe_vector,
    right_probe,
    sketch_of,
    tensor_from_bytes,
)

Named = list[tuple[str, torch.Tensor]]


def named(*tensors: torch.Tensor) -> Named:
    return [(f"layer.{i}.weight", tensor) for i, tensor in enumerate(tensors)]


def packed(tensors: Named, bucket_bytes: int) -> tuple[list[Bucket], list[TensorEntry]]:
    buckets = list(pack_buckets(tensors, bucket_bytes=bucket_bytes))
    return [data for data, _ in buckets], [entry for _, part in buckets for entry in part]


dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
shapes = st.lists(st.integers(1, 5), min_size=0, max_size=3)


@settings(deadline=None)
@given(
    kinds=st.lists(st.tuples(dtypes, shapes), min_size=1, max_size=8),
    bucket_bytes=st.integers(1, 400),
)
def test_tensors_come_back_bit_for_bit(
    kinds: list[tuple[torch.dtype, list[int]]], bucket_bytes: int
) -> None:
    torch.manual_seed(0)
    tensors = named(*(torch.randn(shape).to(dtype) for dtype, shape in kinds))
    buckets, entries = packed(tensors, bucket_bytes)
    assert [entry.name for entry in entries] == [name for name, _ in tensors]
    sent = [data for bucket in buckets for data in bucket]
    for data, entry, (_, tensor) in zip(sent, entries, tensors, strict=True):
        found = tensor_from_bytes(data, entry)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert digest_of(bytes_of(found)) == digest_of(bytes_of(tensor))
    for number, bucket in enumerate(buckets):
        check_received(bucket, [entry for entry in entries if entry.bucket == number])


def test_buckets_are_filled_in_order() -> None:
    tensors = named(torch.ones(3), torch.ones(4), torch.ones(5))  # 12, 16 and 20 bytes
    buckets, entries = packed(tensors, 40)
    # 12 + 16 fit into 40, with 20 more they do not.
    assert [(e.bucket, e.num_bytes) for e in entries] == [(0, 12), (0, 16), (1, 20)]
    assert [[data.nbytes for data in bucket] for bucket in buckets] == [[12, 16], [20]]
    manifest = Manifest(version=0, entries=tuple(entries), num_buckets=2)
    assert [len(manifest.of_bucket(number)) for number in range(2)] == [2, 1]


def test_a_bucket_shares_the_memory_of_its_tensors() -> None:
    tensor = torch.ones(3)
    ((data,),), _ = packed(named(tensor), 1024)
    tensor[0] = 2
    assert data.view(np.float32).tolist() == [2.0, 1.0, 1.0]


def test_a_tensor_larger_than_a_bucket_gets_its_own() -> None:
    _, entries = packed(named(torch.ones(2), torch.ones(100), torch.ones(2)), 64)
    assert [entry.bucket for entry in entries] == [0, 1, 2]


def test_a_view_that_is_not_contiguous_is_sent_as_it_reads() -> None:
    matrix = torch.arange(6, dtype=torch.float32).view(2, 3).T
    ((data,),), (entry,) = packed(named(matrix), 1024)
    assert torch.equal(tensor_from_bytes(data, entry), matrix)


def test_only_one_bucket_is_held_at_a_time() -> None:
    consumed: list[str] = []

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in named(*[torch.ones(16)] * 4):
            consumed.append(name)
            yield name, tensor

    first = next(iter(pack_buckets(tensors(), bucket_bytes=64)))
    assert len(first[1]) == 1
    assert len(consumed) == 2


def test_one_flipped_bit_is_found_and_its_tensor_named() -> None:
    (bucket,), entries = packed(named(torch.ones(4), torch.ones(4), torch.ones(4)), 1024)
    bucket[1][7] ^= 1
    with pytest.raises(WeightSyncError, match=r"tensor layer\.1\.weight must arrive with digest"):
        check_received(bucket, entries)


def test_a_bucket_that_is_too_short_is_found() -> None:
    (bucket,), entries = packed(named(torch.ones(4), torch.ones(4)), 1024)
    with pytest.raises(WeightSyncError, match=r"layer\.1\.weight"):
        check_received([bucket[0], bucket[1][:4]], entries)
    with pytest.raises(WeightSyncError, match=r"hold the 2 tensors .* found 1; .*layer\.0"):
        check_received(bucket[:1], entries)


def test_a_sketch_is_the_product_of_both_probes_with_the_matrix() -> None:
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    x = [math.cos(1.1), math.cos(1.6180339887498949 + 1.1)]
    u = [math.cos(0.3), math.cos(1.6180339887498949 + 0.3)]
    y = [x[0] + 2 * x[1], 3 * x[0] + 4 * x[1]]
    assert right_probe(2).tolist() == pytest.approx(x)
    assert left_probe(2).tolist() == pytest.approx(u)
    sketch, scale = sketch_of(matrix @ right_probe(2))
    assert sketch == pytest.approx(u[0] * y[0] + u[1] * y[1], rel=1e-5)
    assert scale == pytest.approx(math.hypot(*u) * math.hypot(*y), rel=1e-5)


def test_probes_are_the_same_everywhere() -> None:
    assert torch.equal(probe_vector(8, 0.3)[:4], probe_vector(4, 0.3))
    assert sketch_of(torch.zeros(3))[1] == 0.0


def test_a_digest_is_that_of_the_bytes_alone() -> None:
    data = np.arange(4, dtype=np.uint8)
    assert digest_of(data) == digest_of(bytes_of(torch.arange(4, dtype=torch.uint8)))
    assert digest_of(data) != digest_of(data[::-1].copy())


def test_a_manifest_travels_and_adds_up() -> None:
    _, entries = packed(named(torch.ones(3), torch.ones(2, 2)), 1024)
    manifest = Manifest(version=4, entries=tuple(entries), num_buckets=1)
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    assert manifest.num_bytes == 12 + 16
    assert isinstance(pickle.loads(pickle.dumps(WeightSyncError("w"))), WeightSyncError)
    assert dataclasses.is_dataclass(manifest)
