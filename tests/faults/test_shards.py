"""One process of an engine holds other weights than those sent: tensor and rank are named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from transformers import PreTrainedModel

from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import Sampling
from t2g_ray.vllm_private.experts import are_experts
from t2g_ray.vllm_private.worker import weight_receiver
from t2g_ray.weights import vllm_backend
from t2g_ray.weights.manifest import WeightSyncError
from t2g_ray.weights.proof import ShardProof
from t2g_ray.weights.vllm_backend import BucketUpdateInfo, BucketWeightTransferEngine
from t2g_ray.weights.worker_calls import check_kinds
from tests.integration.parts import (
    differences,
    disturb,
    generate,
    make_policy,
    pack,
    prompts_of,
    spec_of,
    write_policy,
)

SAMPLING = Sampling(group_size=2, temperature=1.0, max_new_tokens=16)
LAYER = "model.layers.1"


def policy_of(version: int) -> PreTrainedModel:
    policy = make_policy("moe")
    return disturb(policy, seed=4, scale=0.05) if version else policy


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerationEngine]:
    """Experts, attention and vocabulary over two processes."""
    folder = write_policy(tmp_path_factory.mktemp("moe") / "model", policy_of(0))
    started = GenerationEngine(replace(spec_of(folder), tensor_parallel=2))
    yield started
    started.close()


@pytest.fixture
def engine(shared_engine: GenerationEngine) -> Iterator[GenerationEngine]:
    """With version 0; whatever a test broke, a whole sync puts right."""
    shared_engine.load(*pack(policy_of(0), 0), verify=True)
    yield shared_engine
    shared_engine._call(mend)
    shared_engine.load(*pack(policy_of(0), 0), verify=True)
    assert_agrees(shared_engine, 0)


def assert_agrees(engine: GenerationEngine, version: int) -> None:
    groups = generate(engine, prompts_of(2, 20), SAMPLING)
    assert differences(policy_of(version), groups, 1.0).mean() < 1e-5


def num_expert_layers(worker: Any) -> int:
    return sum(are_experts(layer) for layer in weight_receiver(worker).model.modules())


def test_shards_of_new_weights_write_what_the_whole_model_would(engine: GenerationEngine) -> None:
    assert engine._call(num_expert_layers) == [2, 2]
    assert_agrees(engine, 0)
    engine.load(*pack(policy_of(1), 1), verify=True)
    assert_agrees(engine, 1)


RANK = 1
"""The one of two that goes wrong."""


def on_one_rank(worker: Any, change: Any) -> None:
    receiver: Any = weight_receiver(worker)
    if receiver.parallel_config.rank == RANK:
        change(receiver)


def mend(worker: Any) -> None:
    """Take back what a test put in place of a receiver's methods."""
    receiver = weight_receiver(worker)
    for name in ("receive_weights", "finish_weight_update"):
        vars(receiver).pop(name, None)


def flip_arriving_bit(receiver: Any, name: str) -> None:
    """From now on one bit of a tensor is wrong when it arrives."""

    def receive(info: BucketUpdateInfo) -> None:
        assert isinstance(info.bucket, list)
        names = [entry.name for entry in info.entries]
        bucket = list(info.bucket)
        if name in names:
            bucket[names.index(name)] = np.array(bucket[names.index(name)])
            bucket[names.index(name)][5] ^= 1
        BucketWeightTransferEngine.receive_weights(receiver, replace(info, bucket=bucket))

    receiver.receive_weights = receive


def change_parameter(receiver: Any, name: str) -> None:
    """Another number in the middle of one parameter, as it lies in memory now."""
    parameter = receiver.model.get_parameter(name)
    parameter.data.view(-1)[parameter.numel() // 2] += 0.5


def leave_old_copy(receiver: Any, path: str) -> None:
    """From now on one layer is not packed: it goes on computing with its old copy."""

    def finish() -> None:
        victim = receiver.model.get_submodule(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                vllm_backend,
                "_layers",
                lambda model: (layer for layer in model.modules() if layer is not victim),
            )
            BucketWeightTransferEngine.finish_weight_update(receiver)

    receiver.finish_weight_update = finish


def pack_over_packed_experts(receiver: Any) -> None:
    """From now on experts are packed as vLLM does it a second time: by copying what was loaded."""

    def finish() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                vllm_backend,
                "pack_experts",
                lambda layer: layer.quant_method.process_weights_after_loading(layer),
            )
            BucketWeightTransferEngine.finish_weight_update(receiver)

    receiver.finish_weight_update = finish


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}.mlp.experts.3.up_proj.weight",
        f"{LAYER}.self_attn.k_proj.weight",
        "model.embed_tokens.weight",
    ],
)
def test_a_bit_that_flips_on_the_way_to_one_rank_names_both(
    engine: GenerationEngine, name: str
) -> None:
    engine._call(on_one_rank, partial(flip_arriving_bit, name=name))
    with pytest.raises(WeightSyncError, match=f"rank 1 of 2: tensor {name} must arrive with"):
        engine.load(*pack(policy_of(1), 1), verify=True)
    # The other rank has the new weights already, so nothing may be written.
    for refused in (engine.step, lambda: engine.add(prompts_of(1, 20)[0], SAMPLING)):
        with pytest.raises(WeightSyncError, match=f"version 1 failed: rank 1 of 2: tensor {name}"):
            refused()
    assert engine.version == 0


@pytest.mark.parametrize(
    ("parameter", "tensor"),
    [
        ("model.embed_tokens.weight", "copy of tensor model.embed_tokens.weight must have"),
        (f"{LAYER}.input_layernorm.weight", f"copy of tensor {LAYER}.input_layernorm.weight must"),
        # Packed experts are no array of bytes that is known, so they are held by what they compute.
        (
            f"{LAYER}.mlp.experts.routed_experts.w2_weight",
            r"layer of tensors \S+\.experts\.2\.gate_proj\.weight, \S+ and \S+\.2\.down_proj\.",
        ),
    ],
)
def test_a_shard_that_changes_after_its_load_names_tensor_and_rank(
    engine: GenerationEngine, parameter: str, tensor: str
) -> None:
    manifest, buckets = pack(policy_of(1), 1)
    engine.load(manifest, buckets, verify=True)
    engine.verify(manifest)
    engine._call(on_one_rank, partial(change_parameter, name=parameter))
    with pytest.raises(WeightSyncError, match=f"rank 1 of 2: the .*{tensor}"):
        engine.verify(manifest)


@pytest.mark.parametrize(
    ("trap", "tensor"),
    [
        (partial(leave_old_copy, path=f"{LAYER}.self_attn.o_proj"), rf"{LAYER}\.self_attn\.o_proj"),
        (partial(leave_old_copy, path=f"{LAYER}.mlp.gate"), rf"{LAYER}\.mlp\.gate"),
        (pack_over_packed_experts, r"model\.layers\.0\.mlp\.experts\.0\.gate_proj"),
    ],
)
def test_an_old_copy_on_one_rank_is_silent_and_the_proof_names_tensor_and_rank(
    engine: GenerationEngine, trap: Any, tensor: str
) -> None:
    engine._call(on_one_rank, trap)
    manifest, buckets = pack(policy_of(1), 1)
    engine.load(manifest, buckets, verify=False)
    groups = generate(engine, prompts_of(2, 20), SAMPLING)
    assert differences(policy_of(1), groups, 1.0).mean() > 1e-4
    with pytest.raises(WeightSyncError, match=rf"rank 1 of 2: the layer of tensors? {tensor}"):
        engine.load(manifest, buckets, verify=True)


def test_a_tensor_that_was_never_sent_is_named_by_the_part_that_misses_it(
    engine: GenerationEngine,
) -> None:
    manifest, buckets = pack(policy_of(1), 1, bucket_mib=8)
    missing = f"{LAYER}.mlp.experts.1.down_proj.weight"
    kept = [i for i, entry in enumerate(manifest.entries) if entry.name != missing]
    entries = tuple(manifest.entries[i] for i in kept)
    with pytest.raises(WeightSyncError, match=f"w2_weight must come from tensor {missing} of the"):
        engine.load(
            replace(manifest, entries=entries), [[buckets[0][i] for i in kept]], verify=True
        )


class OwnCut(torch.nn.Module):
    """A layer that vLLM might add."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))


def add_layer_of_unknown_kind(worker: Any) -> None:
    receiver: Any = weight_receiver(worker)
    assert isinstance(receiver.proof, ShardProof)
    receiver.model.own_cut = OwnCut()
    vars(receiver).pop("proof")


def take_it_back(worker: Any) -> None:
    receiver: Any = weight_receiver(worker)
    del receiver.model.own_cut


def test_a_layer_without_a_rule_is_refused_before_anything_is_loaded(
    engine: GenerationEngine,
) -> None:
    engine._call(add_layer_of_unknown_kind)
    try:
        # As an engine asks when it starts.
        with pytest.raises(WeightSyncError, match=r"rank 0 of 2: layer own_cut .* OwnCut; set"):
            engine._call(check_kinds)
    finally:
        engine._call(take_it_back)


WRITES_FOR_EVER = """
import sys
from dataclasses import replace
from tests.integration.parts import generate, prompts_of, spec_of
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import Sampling

if __name__ == "__main__":
    engine = GenerationEngine(replace(spec_of(sys.argv[1]), tensor_parallel=2, load_weights=True))
    print("started", flush=True)
    while True:
        sampling = Sampling(group_size=2, temperature=1.0, max_new_tokens=200, ignore_eos=True)
        generate(engine, prompts_of(8, 20), sampling)
"""


def test_processes_of_an_engine_that_is_killed_end_with_it(tmp_path: Path) -> None:
    model = write_policy(tmp_path / "model", policy_of(0))
    program = tmp_path / "writes.py"
    program.write_text(WRITES_FOR_EVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    with subprocess.Popen(
        [sys.executable, str(program), str(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as engine:
        assert engine.stdout is not None
        assert any(line == "started\n" for line in engine.stdout)
        workers = psutil.Process(engine.pid).children(recursive=True)
        ranks = [one for one in workers if "Worker_TP" in one.name()]
        assert len(ranks) == 2
        # While the second one stands still the first waits in a collective, where it hears nothing.
        ranks[1].suspend()
        time.sleep(1)
        engine.kill()
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert alive == []
