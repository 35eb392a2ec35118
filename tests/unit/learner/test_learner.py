"""What a rank sends as a version, from a policy with adapters and without an optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t2g_ray.config import LearnerConfig, LoraConfig
from t2g_ray.learner import learner as module
from t2g_ray.learner.learner import Learner
from t2g_ray.model.lora import adapters_of, add_adapters, plain_tensors
from t2g_ray.model.policy import build_tiny_policy
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.weights.adapters import is_of_adapter
from t2g_ray.weights.manifest import WeightSyncError, right_probe, sketch_of

pytest.importorskip("peft")
pytestmark = pytest.mark.slow  # the import of DeepSpeed takes seconds


class Untrained(Learner):
    """A rank that only sends."""

    def __init__(self, sync: Any, sampler_dtype: str, **lora: Any) -> None:
        policy = build_tiny_policy(build_tokenizer(), seed=0)
        settings = LoraConfig(rank=2, alpha=3, sync=sync, **lora)
        add_adapters(policy, settings, seed=0)
        generator = torch.Generator().manual_seed(0)
        for adapter in adapters_of(policy):
            b = adapter.parts[1]
            b.data.copy_(1e-3 * torch.randn(b.shape, generator=generator))
        self.engine = SimpleNamespace(module=SimpleNamespace(policy=policy))
        self.device = policy.device
        self._settings = LearnerConfig(lora=settings)
        self._sampler_dtype, self._seed = sampler_dtype, 0


def sent(learner: Learner, version: int = 1, **how: Any) -> dict[str, torch.Tensor]:
    return dict(learner.sampler_tensors(version, **how))


def test_adapters_go_alone_or_behind_the_frozen_weights() -> None:
    learner = Untrained("adapter", "float32")
    alone, whole = sent(learner, is_whole=False), sent(learner, is_whole=True)
    assert alone and all(is_of_adapter(name) for name in alone)
    frozen = {one.name: one.value() for one in plain_tensors(learner.policy, is_merged=False)}
    assert list(whole) == [*frozen, *alone]
    assert all(torch.equal(whole[name], frozen[name]) for name in frozen)


def test_what_is_sent_adds_what_the_merged_weights_hold() -> None:
    alone = sent(Untrained("adapter", "float32"), is_whole=False)
    merged = {
        name.removesuffix(".weight"): change
        for name, _, change in Untrained("merged", "float32").changed_tensors()
        if change is not None
    }
    for layer, change in merged.items():
        a, b = alone[f"{layer}.lora_A.weight"], alone[f"{layer}.lora_B.weight"]
        torch.testing.assert_close(b @ a, change)
        found = alone[f"{layer}.lora_sketch"].tolist()
        assert found == pytest.approx(sketch_of(change @ right_probe(a.shape[1])), rel=1e-4)
    assert len(alone) == 3 * len(merged)


def test_merged_weights_are_whole_whatever_is_asked_for() -> None:
    learner = Untrained("merged", "float32")
    assert list(sent(learner, is_whole=False)) == list(sent(learner, is_whole=True))


def test_in_bf16_frozen_weights_stay_the_same_and_adapters_are_rounded_on_average() -> None:
    learner = Untrained("adapter", "bfloat16")
    versions = [sent(learner, version) for version in range(40)]
    again = sent(learner, 0)
    exact = sent(Untrained("adapter", "float32"), 0)
    for name, tensor in exact.items():
        rounded = [version[name] for version in versions]
        assert torch.equal(rounded[0], again[name])
        if name.endswith(".lora_sketch"):
            assert rounded[0].dtype == torch.float64
            continue
        assert rounded[0].dtype == torch.bfloat16
        if not is_of_adapter(name):
            assert all(torch.equal(one, rounded[0]) for one in rounded)
            continue
        error = torch.stack([one.float() - tensor for one in rounded]).mean(0)
        # One step of bf16 is 2**-8 of a value; the mean of 40 is off by a small part of that.
        assert float(error.abs().max()) < 2**-9 * float(tensor.abs().max())


def test_a_version_in_which_the_adapters_are_lost_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "rounded", lambda t, dtype, seed: torch.zeros_like(t, dtype=dtype))
    with pytest.raises(WeightSyncError, match="found 0% at version 1"):
        sent(Untrained("adapter", "bfloat16"), is_whole=False)


@pytest.mark.parametrize(
    ("sync", "is_whole", "expected"),
    [
        ("merged", False, ["merged"]),
        ("merged", True, ["merged"]),
        ("adapter", False, ["adapters"]),
        ("adapter", True, ["frozen", "adapters"]),
    ],
)
def test_other_ranks_walk_the_same_gathers(
    monkeypatch: pytest.MonkeyPatch, sync: str, is_whole: bool, expected: list[str]
) -> None:
    learner = Untrained(sync, "float32")
    walked: list[str] = []

    def tensors(*, is_merged: bool = True) -> Iterator[Any]:
        walked.append("merged" if is_merged else "frozen")
        yield from ()

    def adapters() -> Iterator[Any]:
        walked.append("adapters")
        yield from ()

    monkeypatch.setattr(learner, "changed_tensors", tensors)
    monkeypatch.setattr(learner, "gathered_adapters", adapters)
    learner.only_gather(is_whole=is_whole)
    sent(learner, is_whole=is_whole)
    assert walked == 2 * expected
