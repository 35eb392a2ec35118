"""Adapters as versions of their own in a real vLLM engine: equal to merged weights, kept by what
began under them, and named where they are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t2g_ray.config import LoraConfig
from t2g_ray.model.lora import adapters_of, add_adapters, plain_tensors
from t2g_ray.rollout import adapters as module
from t2g_ray.rollout.adapters import AdapterSlots
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import Sampling
from t2g_ray.types import Group
from t2g_ray.vllm_private.worker import worker_model
from t2g_ray.weights.adapters import adapter_tensors, number_of
from t2g_ray.weights.manifest import (
    MIB,
    Bucket,
    Manifest,
    WeightSyncError,
    pack_buckets,
    right_probe,
)
from tests.integration.parts import (
    differences,
    generate,
    make_policy,
    prompts_of,
    spec_of,
    write_policy,
)

pytest.importorskip("peft")

LORA = LoraConfig(rank=4, alpha=12, sync="adapter")
SAMPLING = Sampling(group_size=4, temperature=1.0, max_new_tokens=24)
Q_A = "model.layers.1.self_attn.q_proj.lora_A.weight"
UP_B = "model.layers.0.mlp.up_proj.lora_B.weight"

Tensors = dict[str, torch.Tensor]


def adapted(version: int, *, kind: Any = "tied", lora: LoraConfig = LORA) -> Any:
    """The policy of a version: the same frozen weights, other adapters."""
    torch.manual_seed(0)
    policy = make_policy(kind)
    add_adapters(policy, lora, seed=0)
    generator = torch.Generator().manual_seed(version)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if ".lora_" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise)
    return policy.eval()


def frozen(policy: Any) -> Tensors:
    return {one.name: one.value() for one in plain_tensors(policy, is_merged=False)}


def merged(policy: Any) -> Tensors:
    return {one.name: one.value() for one in plain_tensors(policy)}


def alone(policy: Any) -> Tensors:
    found: Tensors = {}
    for adapter in adapters_of(policy):
        a, b = adapter.factors()
        product = adapter.product(right_probe(a.shape[1]))
        found.update(adapter_tensors(adapter.layer, a, b, product))
    return found


def packed(tensors: Tensors, version: int) -> tuple[Manifest, list[Bucket]]:
    parts = list(pack_buckets(tensors.items(), bucket_bytes=MIB // 8))
    entries = tuple(entry for _, part in parts for entry in part)
    manifest = Manifest(version=version, entries=entries, num_buckets=len(parts))
    return manifest, [bucket for bucket, _ in parts]


def started(model: Path, *, slots: int = 3, **more: Any) -> GenerationEngine:
    lora = more.pop("lora", LORA)
    spec = replace(spec_of(model, **more), adapters=AdapterSlots(lora=lora, number=slots))
    engine = GenerationEngine(spec)
    kind = "untied" if "untied" in str(model) else "tied"
    policy = adapted(0, kind=kind, lora=lora)
    engine.load(*packed(frozen(policy) | alone(policy), 0), verify=True)
    return engine


@pytest.fixture(scope="module")
def engine(tied_model: Path) -> Iterator[GenerationEngine]:
    engine = started(tied_model)
    yield engine
    engine.close()


def rest_of(engine: GenerationEngine) -> list[Group]:
    groups: list[Group] = []
    while engine.is_busy:
        groups += engine.step()
    return groups


def test_it_is_the_learners_policy(engine: GenerationEngine) -> None:
    found = differences(adapted(0), generate(engine, prompts_of(6, 40), SAMPLING), 1.0)
    assert len(found) > 200
    assert found.mean() < 1e-5


def logprobs_of(groups: Sequence[Group]) -> Any:
    return np.concatenate([one.logprobs for group in groups for one in group.completions])


def tokens_of(groups: Sequence[Group]) -> list[list[int]]:
    return [one.token_ids.tolist() for group in groups for one in group.completions]


def test_a_group_ends_under_the_adapter_that_it_began_with(engine: GenerationEngine) -> None:
    endless = Sampling(group_size=3, temperature=1.0, max_new_tokens=20, ignore_eos=True)
    for version, prompt in zip((3, 4, 5), prompts_of(3, 40), strict=True):
        engine.load(*packed(alone(adapted(version)), version), verify=True)
        engine.add(prompt, endless)
        for _ in range(4):
            engine.step()
    groups = sorted(rest_of(engine), key=lambda group: group.prompt.index)
    for version, group in zip((3, 4, 5), groups, strict=True):
        assert {int(v) for one in group.completions for v in one.versions} == {version}
        assert differences(adapted(version), [group], 1.0).mean() < 1e-5
        assert differences(adapted(version - 1), [group], 1.0).mean() > 1e-2


def test_a_prefix_of_another_version_is_not_read(engine: GenerationEngine) -> None:
    prompt = prompts_of(1, 300, seed=3)
    for version in (6, 7):
        engine.load(*packed(alone(adapted(version)), version), verify=True)
        for _ in range(2):
            found = differences(adapted(version), generate(engine, prompt, SAMPLING), 1.0)
            assert found.mean() < 1e-5


def held(engine: GenerationEngine) -> list[int]:
    (found,) = engine._call(held_in)
    return [number - 1 for number in found]


def held_in(worker: Any) -> list[int]:
    return sorted(worker_model(worker).lora_manager.list_adapters())


def test_versions_leave_when_no_group_is_of_them_and_a_fourth_of_three_is_refused(
    engine: GenerationEngine,
) -> None:
    endless = Sampling(group_size=1, temperature=1.0, max_new_tokens=12, ignore_eos=True)
    for version, prompt in zip((8, 9, 10), prompts_of(3, 20), strict=True):
        engine.load(*packed(alone(adapted(version)), version), verify=False)
        engine.add(prompt, endless)
        engine.step()
    assert held(engine) == [8, 9, 10]
    with pytest.raises(WeightSyncError, match=r"version 11 comes, found \[8, 9, 10\]"):
        engine.load(*packed(alone(adapted(11)), 11), verify=False)
    engine.abort(["train 0"])
    engine.load(*packed(alone(adapted(11)), 11), verify=True)
    assert held(engine) == [9, 10, 11]
    rest_of(engine)
    engine.load(*packed(alone(adapted(12)), 12), verify=True)
    assert held(engine) == [12]


def change(worker: Any, name: str, factor: float) -> None:
    """Multiply one matrix in its slot."""
    manager = worker_model(worker).lora_manager
    index = manager.lora_index_to_id.index(number_of(20))
    for path, layer in manager.modules.items():
        for place, part in enumerate(manager.packed_modules.get(path, [path])):
            if name.startswith(f"{part}."):
                stacked = layer.lora_a_stacked if "lora_A" in name else layer.lora_b_stacked
                stacked[place][index] *= factor


def change_one(worker: Any) -> None:
    change(worker, UP_B, 1.001)


def scale_one(worker: Any) -> None:
    change(worker, UP_B, 3.0)


def empty_one(worker: Any) -> None:
    change(worker, Q_A, 0.0)


@pytest.mark.parametrize(
    ("fault", "name"), [(change_one, UP_B), (scale_one, UP_B), (empty_one, Q_A)]
)
def test_another_matrix_in_a_slot_is_named(
    engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch, fault: Any, name: str
) -> None:
    install = module.install_adapter

    def install_and_change(worker: Any, version: int, in_use: Any) -> None:
        install(worker, version, in_use)
        fault(worker)

    monkeypatch.setattr("t2g_ray.rollout.engine.install_adapter", install_and_change)
    with pytest.raises(WeightSyncError, match=f"worker 0 must compute with tensor {name} of"):
        engine.load(*packed(alone(adapted(20)), 20), verify=True)


def test_two_matrices_that_changed_places_are_named(
    engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = module.install

    def swapped(model: Any, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        k_a = Q_A.replace("q_proj", "k_proj")
        install(model, version, {**tensors, Q_A: tensors[k_a], k_a: tensors[Q_A]})

    monkeypatch.setattr(module, "install", swapped)
    with pytest.raises(WeightSyncError, match=f"the engine's copy of tensor {Q_A} must have"):
        engine.load(*packed(alone(adapted(20)), 20), verify=True)


def test_an_older_adapter_under_the_new_name_is_named(
    engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = module.install

    def stale(model: Any, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        install(model, version, alone(adapted(19)))

    monkeypatch.setattr(module, "install", stale)
    first = next(iter(alone(adapted(20))))
    with pytest.raises(WeightSyncError, match=f"tensor {first} must .* is of another version"):
        engine.load(*packed(alone(adapted(20)), 20), verify=True)


def test_an_adapter_that_was_not_installed_is_named(
    engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "install", lambda *_: None)
    with pytest.raises(WeightSyncError, match=r"lora_A\.weight of version 20 must lie in a slot"):
        engine.load(*packed(alone(adapted(20)), 20), verify=True)


def test_a_scaling_that_is_not_the_learners_is_named_by_its_layer(
    engine: GenerationEngine,
) -> None:
    # As a learner would send that forgot the scaling: all bytes arrive.
    sent = alone(adapted(20))
    sent[UP_B] = sent[UP_B] / 3
    layer = UP_B.removesuffix(".lora_B.weight")
    with pytest.raises(WeightSyncError, match=f"adapter of layer {layer} must add what"):
        engine.load(*packed(sent, 20), verify=True)


# From here on each test has engines of its own: the end of one takes process groups with it that
# another in this process would need.


def test_adapters_alone_are_the_merged_weights(tied_model: Path) -> None:
    groups: dict[str, list[Group]] = {"merged": [], "adapter": []}
    sizes: dict[str, int] = {}
    for sync, tensors in (("merged", merged), ("adapter", alone)):
        engine = started(tied_model) if sync == "adapter" else GenerationEngine(spec_of(tied_model))
        try:
            for version in (1, 2):
                manifest, buckets = packed(tensors(adapted(version)), version)
                engine.load(manifest, buckets, verify=True)
                groups[sync] += generate(engine, prompts_of(6, 40), SAMPLING)
                sizes[sync] = manifest.num_bytes
        finally:
            engine.close()
    # The same seeds draw the same tokens.
    assert tokens_of(groups["adapter"]) == tokens_of(groups["merged"])
    found = np.abs(logprobs_of(groups["adapter"]) - logprobs_of(groups["merged"]))
    assert len(found) > 400
    assert found.mean() < 1e-6 and found.max() < 1e-5
    assert 3 * sizes["adapter"] < sizes["merged"]


def test_changed_frozen_weights_are_named_at_a_later_sync(tied_model: Path) -> None:
    engine = started(tied_model)
    try:
        engine._call(disturb_norm)
        engine.load(*packed(alone(adapted(1)), 1), verify=False)
        with pytest.raises(WeightSyncError, match=r"tensor model\.norm\.weight must have digest"):
            engine.load(*packed(alone(adapted(2)), 2), verify=True)
    finally:
        engine.close()


def disturb_norm(worker: Any) -> None:
    worker_model(worker).model.norm.weight.data[0] += 1e-3


def test_an_engine_without_slots_refuses_an_adapter(tied_model: Path) -> None:
    engine = GenerationEngine(spec_of(tied_model))
    try:
        policy = adapted(0)
        with pytest.raises(WeightSyncError, match="must be started with slots for adapters"):
            engine.load(*packed(frozen(policy) | alone(policy), 0), verify=True)
    finally:
        engine.close()


def test_other_models_formats_and_few_layers(tmp_path: Path) -> None:
    """Biases and a head of its own; bf16; a part of a stacked layer alone."""
    model = write_policy(tmp_path / "untied", make_policy("untied"))
    lora = LoraConfig(rank=2, alpha=3, sync="adapter", targets=["v_proj", "o_proj"])
    engine = started(model, lora=lora)
    try:
        policy = adapted(1, kind="untied", lora=lora)
        engine.load(*packed(alone(policy), 1), verify=True)
        assert differences(policy, generate(engine, prompts_of(4, 40), SAMPLING), 1.0).mean() < 1e-5
    finally:
        engine.close()


def test_in_bf16_guesses_and_evaluations_are_of_the_newest_adapter(tied_model: Path) -> None:
    spec = spec_of(tied_model, dtype="bfloat16")
    engine = GenerationEngine(replace(spec, adapters=AdapterSlots(lora=LORA, number=2)))
    try:
        for version in (0, 1):
            policy = adapted(version)
            sent = (frozen(policy) if version == 0 else {}) | alone(policy)
            half = {k: v if "sketch" in k else v.bfloat16() for k, v in sent.items()}
            engine.load(*packed(half, version), verify=True)
            prompts = [replace(one, purpose="eval") for one in prompts_of(4, 40)]
            found = differences(policy, generate(engine, prompts, SAMPLING), 1.0)
            assert found.mean() < 0.05
    finally:
        engine.close()


def test_right_guesses_change_nothing_under_adapters(tied_model: Path) -> None:
    guessing = replace(
        spec_of(tied_model), adapters=AdapterSlots(lora=LORA, number=3), draft_tokens=8
    )
    engine = GenerationEngine(guessing)
    try:
        policy = adapted(1)
        engine.load(*packed(frozen(policy) | alone(policy), 1), verify=True)
        greedy = Sampling(group_size=1, temperature=0.0, max_new_tokens=24)
        (first,) = generate(engine, prompts_of(1, 40), greedy)
        ids = tuple(int(i) for i in first.completions[0].token_ids)
        passes = engine.num_passes
        prompts = [replace(prompts_of(1, 40)[0], likely_ids=ids)]
        (second,) = generate(engine, prompts, greedy)
        assert tokens_of([first]) == tokens_of([second])
        assert engine.num_passes - passes < len(ids) / 2
        assert differences(policy, [second], 1.0).max() < 1e-3
    finally:
        engine.close()
