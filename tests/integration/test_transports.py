"""Runs whose weights go other ways than through the object store, on the real stack.

These ways are those of `actors.stages.transports`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, call_all
from actors.cluster.waiting import results_of
from actors.grpo import run_grpo
from actors.stages import transports
from actors.stages.transports import transport_of
from actors.stages.weights import RayWeights
from actors.workers.learner import BucketRef, LearnerActor
from actors.workers.rollout import RolloutActor, fetch
from benchmarks.speed.sync import WeightSource
from t2g_ray.config import DeadlineConfig
from t2g_ray.grpo.stages import LoopError
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import rollout_spec
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import read_metrics
from t2g_ray.weights.channels import SharedBucket
from t2g_ray.weights.manifest import Manifest
from tests.integration.parts import grpo_config


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=6, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run(folder: Path, model: Path, transport: str, **tree: Any) -> RunDir:
    sync = {"transport": transport, "bucket_mib": 0.25, "verify_every": 3}
    return run_grpo(grpo_config(folder, model, sync=sync, data={"heldout": "none"}, **tree))


def test_every_way_gives_the_same_model_bit_for_bit(wavering_model: Path, tmp_path: Path) -> None:
    sharded = {"zero_stage": 3, "ranks": 2}
    models = {}
    for transport in ("store", "broadcast", "ipc"):
        done = run(tmp_path / transport, wavering_model, transport, steps=3, learner=sharded)
        models[transport] = (done.model / "model.safetensors").read_bytes()
        buckets = [line["sync/buckets"] for line in read_metrics(done.metrics)]
        assert min(number or 0 for number in buckets) > 1
    assert models["broadcast"] == models["store"]
    assert models["ipc"] == models["store"]


@pytest.mark.parametrize("transport", ["broadcast", "ipc"])
def test_weights_change_under_running_completions_whichever_way_they_come(
    wavering_model: Path, tmp_path: Path, transport: str
) -> None:
    done = run(
        tmp_path / "run",
        wavering_model,
        transport,
        steps=8,
        max_staleness=1,
        rollout={"actors": 2},
    )
    lines = read_metrics(done.metrics)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert max(line["staleness/max"] or 0 for line in lines) == 1
    verified = [line["step"] for line in lines if line["sync/verified"]]
    assert verified == [1, 3, 6]


def test_a_broadcast_reaches_those_that_join_and_misses_none_that_left(
    wavering_model: Path, tmp_path: Path
) -> None:
    config = grpo_config(tmp_path / "run", wavering_model, sync={"transport": "broadcast"})
    source: Any = ray.remote(WeightSource).remote(config, str(wavering_model))
    actor: Any = ray.remote(RolloutActor).options(max_concurrency=2)
    first, second = (
        Handle[RolloutActor](
            f"rollout/{i}", actor.remote(rollout_spec(config, str(wavering_model)))
        )
        for i in range(2)
    )
    fleet = Fleet([first])
    weights = RayWeights(config, learners=[Handle("learner/0", source)], fleet=fleet)
    weights.publish(0)
    fleet.add(second)
    assert weights.publish(1).is_verified
    assert versions(fleet) == [1, 1]
    fleet.remove_last().kill()
    weights.publish(2)
    assert versions(fleet) == [2]


def versions(fleet: Fleet) -> list[int]:
    calls = call_all(fleet, RolloutActor.call, version_of)
    return results_of(calls, "question for the versions", DeadlineConfig().sync)


def version_of(engine: GenerationEngine) -> int:
    return engine.version


class Keeping(WeightSource):
    """A learner rank that says how much memory it holds for samplers."""

    def num_kept(self) -> int:
        return len(self._kept)


class Reading(RolloutActor):
    """Opens what it is offered and counts the bytes."""

    def __init__(self) -> None:
        """Without an engine."""

    def device_key(self) -> str:
        return f"{self.node()}/cpu"

    def load(self, manifest: Manifest, buckets: Sequence[BucketRef], verify: bool) -> float:
        offered = [bucket for bucket in fetch(buckets) if isinstance(bucket, SharedBucket)]
        return float(sum(bucket.open().numel() for bucket in offered))


def test_a_rank_that_no_sampler_reads_from_keeps_no_copy(
    wavering_model: Path, tmp_path: Path
) -> None:
    config = grpo_config(tmp_path / "run", wavering_model, sync={"transport": "ipc"})
    ranks: list[Handle[Keeping]] = [
        Handle(f"learner/{rank}", ray.remote(Keeping).remote(config, str(wavering_model)))
        for rank in range(2)
    ]
    rollout: Handle[RolloutActor] = Handle("rollout/0", ray.remote(Reading).remote())
    transport = transport_of(config, ranks, Fleet([rollout]))
    for version in range(2):
        sent = transport.send(version, is_whole=True, verify=False)
        (num_bytes,) = results_of(sent.loads, "load", DeadlineConfig().sync)
        assert num_bytes >= sum(entry.num_bytes for entry in sent.manifest.entries) > 0
        kept = results_of(call_all(ranks, Keeping.num_kept), "count", DeadlineConfig().sync)
        assert kept == [sent.manifest.num_buckets, 0]


class Unpacking(Reading):
    """Fetches what it is told of, and counts the bytes."""

    def load(self, manifest: Manifest, buckets: Sequence[BucketRef], verify: bool) -> float:
        assert manifest.num_buckets == len(buckets) and verify
        whole = [bucket for bucket in fetch(buckets) if isinstance(bucket, list)]
        return float(sum(array.nbytes for bucket in whole for array in bucket))


@pytest.mark.parametrize("few", [1, 2])
def test_few_actors_and_many_are_told_of_the_same_buckets(
    wavering_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(transports, "_FEW", few)
    sync = {"transport": "store", "bucket_mib": 0.25}
    config = grpo_config(tmp_path / "run", wavering_model, sync=sync)
    source: Any = ray.remote(WeightSource).remote(config, str(wavering_model))
    reader: Any = ray.remote(Unpacking)
    fleet = Fleet(Handle[RolloutActor](f"rollout/{i}", reader.remote()) for i in range(2))
    sent = transport_of(config, [Handle("learner/0", source)], fleet).send(
        1, is_whole=True, verify=True
    )
    wanted = sum(entry.num_bytes for entry in sent.manifest.entries)
    assert sent.manifest.num_buckets > 1
    assert results_of(sent.loads, "load", DeadlineConfig().sync) == [wanted, wanted]


class Elsewhere(RolloutActor):
    """Is on another device than everything else."""

    def __init__(self) -> None:
        """Without an engine."""

    def device_key(self) -> str:
        return "node/GPU-1"


class Learner:
    """Answers where it is."""

    def device_key(self) -> str:
        return "node/GPU-0"


def test_sharing_memory_between_devices_is_refused_by_the_actors_name(tmp_path: Path) -> None:
    config = grpo_config(tmp_path / "run", tmp_path / "model", sync={"transport": "ipc"})
    learner: Handle[LearnerActor] = Handle("learner/0", ray.remote(Learner).remote())
    rollout: Handle[RolloutActor] = Handle("rollout/0", ray.remote(Elsewhere).remote())
    with pytest.raises(LoopError, match=r"found none on that of rollout/0 \(node/GPU-1\)"):
        RayWeights(config, learners=[learner], fleet=Fleet([rollout])).publish(0)
