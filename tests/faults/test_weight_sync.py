"""Weights that do not arrive as they were sent: each fault stops with the tensor's name."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from transformers import PreTrainedModel

from actors.cluster import start as cluster
from actors.grpo import run_grpo
from actors.workers.learner import LearnerActor
from actors.workers.rollout import RolloutActor
from t2g_ray.cli.exits import FAILED, exit_code
from t2g_ray.grpo.stages import LoopError
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.weights import vllm_backend as weight_engine
from t2g_ray.weights.channels import FlatBucket, unflatten
from t2g_ray.weights.manifest import Bucket, Manifest, TensorEntry, WeightSyncError, pack_buckets
from t2g_ray.weights.vllm_backend import BucketUpdateInfo, BucketWeightTransferEngine
from tests.integration.parts import (
    differences,
    disturb,
    generate,
    grpo_config,
    make_policy,
    pack,
    prompts_of,
    spec_of,
    write_policy,
)

VICTIM = "model.layers.1.mlp.down_proj.weight"
SAMPLING = Sampling(group_size=2, temperature=1.0, max_new_tokens=16)


def first_policy() -> PreTrainedModel:
    return make_policy("tied")


def next_policy() -> PreTrainedModel:
    """The first one after a step of training."""
    return disturb(make_policy("tied"), seed=4, scale=0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("tied") / "model", first_policy())


@pytest.fixture(scope="module")
def shared_engine(model: Path) -> Iterator[GenerationEngine]:
    started = GenerationEngine(spec_of(model))
    yield started
    started.close()


@pytest.fixture
def engine(shared_engine: GenerationEngine) -> Iterator[GenerationEngine]:
    """An engine with version 0; whatever a test broke, a whole sync puts right."""
    shared_engine.load(*pack(first_policy(), 0), verify=True)
    yield shared_engine
    shared_engine.load(*pack(first_policy(), 0), verify=True)
    groups = generate(shared_engine, prompts_of(2, 20), SAMPLING)
    assert differences(first_policy(), groups, 1.0).mean() < 1e-5


def without(name: str) -> tuple[Manifest, list[Bucket]]:
    """The next version, from whose manifest and buckets one tensor is missing."""
    tensors = [(n, p.detach()) for n, p in next_policy().named_parameters() if n != name]
    packed = list(pack_buckets(tensors, bucket_bytes=1 << 18))
    entries = tuple(entry for _, part in packed for entry in part)
    manifest = Manifest(version=1, entries=entries, num_buckets=len(packed))
    return manifest, [data for data, _ in packed]


def flip_one_bit(manifest: Manifest, buckets: Sequence[Bucket], name: str) -> list[Bucket]:
    entry = next(entry for entry in manifest.entries if entry.name == name)
    changed = [[np.array(data) for data in bucket] for bucket in buckets]
    place = manifest.of_bucket(entry.bucket).index(entry)
    changed[entry.bucket][place][entry.num_bytes // 2] ^= 1
    return changed


def test_an_engine_that_was_sent_nothing_is_found_out(model: Path) -> None:
    fresh = GenerationEngine(spec_of(model))
    try:
        with pytest.raises(WeightSyncError, match=r"tensor model\.\S+\.weight must"):
            fresh.verify(pack(first_policy(), 0)[0])
    finally:
        fresh.close()


@pytest.mark.parametrize("name", [VICTIM, "model.embed_tokens.weight", "model.norm.weight"])
def test_one_flipped_bit_names_its_tensor(engine: GenerationEngine, name: str) -> None:
    manifest, buckets = pack(next_policy(), 1)
    with pytest.raises(WeightSyncError, match=f"tensor {name} must arrive with digest"):
        engine.load(manifest, flip_one_bit(manifest, buckets, name), verify=False)
    assert engine.version == 0


@pytest.mark.parametrize(
    "name",
    [
        VICTIM,
        # One of three that the sampler keeps in one matrix, and one that serves as two.
        "model.layers.0.self_attn.k_proj.weight",
        "model.embed_tokens.weight",
        "model.layers.2.input_layernorm.weight",
    ],
)
def test_a_tensor_that_was_never_sent_is_named(engine: GenerationEngine, name: str) -> None:
    with pytest.raises(WeightSyncError, match=f"must come from tensor {name} of the learner"):
        engine.load(*without(name), verify=True)
    assert engine.version == 0


def test_a_tensor_that_the_sampler_does_not_have_is_named(engine: GenerationEngine) -> None:
    manifest, _ = pack(first_policy(), 0)
    extra = TensorEntry("model.extra.weight", "float32", (2,), 0, 8, "")
    more = Manifest(version=0, entries=(*manifest.entries, extra), num_buckets=1)
    with pytest.raises(WeightSyncError, match=r"found no use of model\.extra\.weight"):
        engine.verify(more)


def test_a_bucket_that_is_missing_is_counted(engine: GenerationEngine) -> None:
    manifest, buckets = pack(next_policy(), 1)
    assert len(buckets) > 2
    with pytest.raises(WeightSyncError, match=f"in {len(buckets)} buckets, found 2"):
        engine.load(manifest, buckets[:2], verify=False)


def test_buckets_in_the_wrong_order_are_found(engine: GenerationEngine) -> None:
    manifest, buckets = pack(next_policy(), 1)
    with pytest.raises(WeightSyncError, match=r"must hold the \d+ tensors .* is model\.\S+"):
        engine.load(manifest, buckets[::-1], verify=False)


def test_a_tensor_loaded_in_the_place_of_another_is_named(
    engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = BucketWeightTransferEngine.receive_weights

    def swap(self: Any, info: BucketUpdateInfo) -> None:
        load_weights = self.model.load_weights
        other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}

        def load_swapped(weights: Any) -> Any:
            names = ((".".join(other.get(p, p) for p in n.split(".")), w) for n, w in weights)
            return load_weights(names)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.model, "load_weights", load_swapped)
            receive(self, info)

    monkeypatch.setattr(BucketWeightTransferEngine, "receive_weights", swap)
    with pytest.raises(WeightSyncError, match=r"layers\.0\.mlp\.gate_proj\.weight"):
        engine.load(*pack(next_policy(), 1), verify=True)
    monkeypatch.undo()


def reload_as_vllm_does(patch: pytest.MonkeyPatch) -> None:
    """vLLM's own way to replace weights, which leaves packed layers as they were."""
    from vllm.model_executor.model_loader.reload import (
        finalize_layerwise_reload,
        initialize_layerwise_reload,
    )

    def start(self: Any) -> None:
        initialize_layerwise_reload(self.model)

    def finish(self: Any) -> None:
        finalize_layerwise_reload(self.model, self.model_config)

    patch.setattr(BucketWeightTransferEngine, "start_weight_update", start)
    patch.setattr(BucketWeightTransferEngine, "finish_weight_update", finish)


def forget_to_pack(patch: pytest.MonkeyPatch) -> None:
    """Full parameters are loaded, and the packed copy that computes is left behind."""
    patch.setattr(BucketWeightTransferEngine, "finish_weight_update", lambda self: None)


def forget_to_pack_one(patch: pytest.MonkeyPatch) -> None:
    """A single layer inside the model goes on with its old copy."""
    finish = BucketWeightTransferEngine.finish_weight_update

    def finish_others(self: Any) -> None:
        victim = self.model.get_submodule(VICTIM.removesuffix(".weight"))
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(
                weight_engine,
                "_layers",
                lambda model: (layer for layer in model.modules() if layer is not victim),
            )
            finish(self)

    patch.setattr(BucketWeightTransferEngine, "finish_weight_update", finish_others)


@pytest.mark.parametrize(
    ("trap", "name"),
    [
        # Layers are looked at in order; the embedding also serves as the head, which is packed.
        (reload_as_vllm_does, "model.embed_tokens.weight"),
        (forget_to_pack, "model.embed_tokens.weight"),
        (forget_to_pack_one, VICTIM),
    ],
)
def test_a_packed_copy_of_old_weights_is_silent_and_the_proof_sees_it(
    model: Path, trap: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = GenerationEngine(spec_of(model))
    try:
        engine.load(*pack(first_policy(), 0), verify=True)
        trap(monkeypatch)
        manifest, buckets = pack(next_policy(), 1)
        # Nothing complains, and the tokens come from other weights than their version says.
        engine.load(manifest, buckets, verify=False)
        groups = generate(engine, prompts_of(2, 20), SAMPLING)
        assert differences(next_policy(), groups, 1.0).mean() > 1e-3
        with pytest.raises(WeightSyncError, match=f"the layer of tensor {name} must compute"):
            engine.load(manifest, buckets, verify=True)
    finally:
        engine.close()


class StaleRollout(RolloutActor):
    """Leaves the packed copies of old weights in place."""

    def __init__(self, spec: EngineSpec) -> None:
        forget_to_pack(pytest.MonkeyPatch())
        super().__init__(spec)


class CorruptingLearner(LearnerActor):
    """Flips one bit of what it sends as version 1."""

    def publish(self, version: int, bucket_mib: float, is_whole: bool) -> Any:
        sent = super().publish(version, bucket_mib, is_whole)
        if sent is None or version < 1:
            return sent
        manifest, references = sent
        changed = flip_one_bit(manifest, ray.get(references), VICTIM)
        return manifest, [ray.put(data) for data in changed]


class CorruptingSender(LearnerActor):
    """Flips one bit of what it broadcasts as version 1."""

    def _flat_buckets(
        self, version: int, bucket_mib: float, is_whole: bool, is_proven: bool
    ) -> Iterator[FlatBucket]:
        for flat, entries in super()._flat_buckets(version, bucket_mib, is_whole, is_proven):
            if self._learner.step_count == 1:
                places = dict(zip([e.name for e in entries], unflatten(flat, entries), strict=True))
                if VICTIM in places:
                    places[VICTIM].view(torch.uint8)[0, 0] ^= 1
            yield flat, entries


class DyingReceiver(RolloutActor):
    """Is killed from outside while it should receive version 1."""

    def receive(self, version: int, verify: bool) -> float:
        if version == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().receive(version, verify)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    # The actors of this file live in a module that only the tests can import.
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(
    ("role", "actor", "transport", "message"),
    [
        (
            "RolloutActor",
            StaleRollout,
            "store",
            r"the layer of tensor model\.\S+\.weight must compute",
        ),
        ("LearnerActor", CorruptingLearner, "store", f"tensor {VICTIM} must arrive with digest"),
        ("LearnerActor", CorruptingSender, "broadcast", f"tensor {VICTIM} must arrive with digest"),
    ],
)
def test_a_run_with_wrong_weights_stops_by_the_tensors_name(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    actor: type,
    transport: str,
    message: str,
) -> None:
    monkeypatch.setattr(cluster, role, actor)
    sync = {"transport": transport}
    config = grpo_config(tmp_path / "run", model, data={"heldout": "none"}, sync=sync)
    with pytest.raises(WeightSyncError, match=message) as caught:
        run_grpo(config)
    assert exit_code(caught.value) == FAILED
    # The run left no result, and nothing that it trained under wrong weights.
    assert not (tmp_path / "run" / "report.json").exists()
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    assert all(json.loads(line)["step"] < 1 for line in lines)


@pytest.mark.usefixtures("ray_here")
def test_a_receiver_that_dies_in_a_broadcast_is_named_at_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RolloutActor", DyingReceiver)
    sync = {"transport": "broadcast"}
    config = grpo_config(tmp_path / "run", model, data={"heldout": "none"}, sync=sync)
    with pytest.raises(LoopError, match=r"broadcast of version 1 .* failure in rollout/0"):
        run_grpo(config)
