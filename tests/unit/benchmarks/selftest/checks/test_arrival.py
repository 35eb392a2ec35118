"""Faults on the way of weights: a sync that stays silent, or names something else, fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.selftest.checks import arrival
from benchmarks.selftest.running import CheckFailed
from benchmarks.selftest.subjects.memory import MIB, MemoryUse
from t2g_ray.types import SyncReport
from t2g_ray.weights.manifest import WeightSyncError

TENSOR = "model.layers.2.mlp.down_proj.weight"


class FakePair:
    """A pair whose sync notices the faults in `noticed`, and says so with `words`."""

    def __init__(
        self,
        *,
        noticed: tuple[str, ...] = ("transit", "load"),
        words: str = f"rank 1: tensor {TENSOR} must arrive",
        is_verified: bool = True,
        is_always_broken: bool = False,
        kept_mib: float = 0.0,
        tensor_parallel: int = 2,
    ) -> None:
        self.config = SimpleNamespace(rollout=SimpleNamespace(tensor_parallel=tensor_parallel))
        self._noticed, self._words, self._is_verified = noticed, words, is_verified
        self._is_always_broken, self._kept_mib = is_always_broken, kept_mib
        self._armed: str | None = None
        self.num_published = 0

    def publish(self, name: str | None = None) -> SyncReport:
        self.num_published += 1
        armed, self._armed = self._armed, None
        if self._is_always_broken or (armed is not None and armed in self._noticed):
            raise WeightSyncError(self._words)
        size = 100 * MIB
        return SyncReport(seconds=0.5, num_bytes=size, num_buckets=4, is_verified=self._is_verified)

    def tensor_to_spoil(self) -> str:
        return TENSOR

    def spoil_in_transit(self, tensor: str) -> None:
        assert tensor == TENSOR
        self._armed = "transit"

    def spoil_after_load(self, tensor: str, rank: int = 0) -> None:
        assert tensor == TENSOR
        self._armed = "load"

    def memory(self) -> dict[str, MemoryUse]:
        now = 500 + self.num_published * self._kept_mib
        return {"learner": MemoryUse(now, now + 10, "cuda:0"), "rollout": MemoryUse(9, 20, "cpu")}


def transport(**faults: Any) -> dict[str, float]:
    pair: Any = FakePair(**faults)
    return {figure.name: figure.value for figure in arrival.transport(pair, "store")}


def test_a_way_that_proves_all_and_names_both_faults_passes() -> None:
    assert transport() == {
        "sync_s": 0.5,
        "sync_gb_per_s": pytest.approx(0.2097152),
        "weights_mib": 100,
        "buckets": 4,
    }


@pytest.mark.parametrize(
    ("noticed", "fault"), [(("load",), "one byte"), (("transit",), "lost its values"), ((), "lost")]
)
def test_a_fault_that_goes_unnoticed_fails(noticed: tuple[str, ...], fault: str) -> None:
    with pytest.raises(CheckFailed, match=f"{fault}.* went unnoticed"):
        transport(noticed=noticed)


def test_an_error_that_names_another_tensor_fails() -> None:
    with pytest.raises(CheckFailed, match=r"must fail by the name of .*found WeightSyncError: x"):
        transport(words="x")


def test_a_sync_that_verifies_nothing_fails() -> None:
    with pytest.raises(CheckFailed, match="every tensor of this sync must be verified"):
        transport(is_verified=False)


def test_a_way_on_which_nothing_arrives_fails_with_its_own_words() -> None:
    with pytest.raises(WeightSyncError, match="must arrive"):
        transport(is_always_broken=True)


def test_a_fault_on_a_shard_must_be_named_by_its_rank() -> None:
    pair: Any = FakePair()
    assert {figure.name for figure in arrival.shards(pair)} == {"workers", "sync_s"}
    nameless: Any = FakePair(words=f"tensor {TENSOR} must arrive")
    with pytest.raises(CheckFailed, match="must name rank 1"):
        arrival.shards(nameless)
    silent: Any = FakePair(noticed=())
    with pytest.raises(CheckFailed, match="went unnoticed"):
        arrival.shards(silent)


def test_memory_that_stays_is_told_by_device() -> None:
    pair: Any = FakePair()
    figures = {figure.name: figure.value for figure in arrival.memory(pair)}
    assert figures == {
        "weights_mib": 100,
        "peak_mib/learner/cuda:0": 510,
        "growth_mib/learner": 0,
        "peak_mib/rollout/cpu": 20,
        "growth_mib/rollout": 0,
    }


@pytest.mark.parametrize(("kept_mib", "is_leak"), [(100.0, True), (55.0, True), (45.0, False)])
def test_a_copy_that_every_sync_leaves_behind_fails(kept_mib: float, is_leak: bool) -> None:
    pair: Any = FakePair(kept_mib=kept_mib)
    if not is_leak:
        arrival.memory(pair)
        return
    with pytest.raises(CheckFailed, match=r"learner must keep no weights .* on cuda:0 after 6"):
        arrival.memory(pair)
