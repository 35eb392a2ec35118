"""The message that tells of a version of a 7B policy."""

from __future__ import annotations

from benchmarks.scale.upkeep import BUCKET_BYTES, manifest_7b


def test_the_manifest_is_that_of_a_model_of_7_6_billion_parameters() -> None:
    manifest = manifest_7b(3)
    assert manifest.version == 3
    assert manifest.num_bytes / 2 == 7_615_616_512
    assert len({entry.name for entry in manifest.entries}) == len(manifest.entries) == 339


def test_a_bucket_is_full_or_holds_one_tensor_that_is_larger() -> None:
    manifest = manifest_7b(0)
    numbers = [entry.bucket for entry in manifest.entries]
    assert numbers == sorted(numbers) and set(numbers) == set(range(manifest.num_buckets))
    for number in range(manifest.num_buckets):
        entries = manifest.of_bucket(number)
        assert len(entries) == 1 or sum(one.num_bytes for one in entries) <= BUCKET_BYTES
