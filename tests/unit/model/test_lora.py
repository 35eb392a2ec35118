"""Adapters beside a tiny policy: what is trained, and what leaves as plain tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from t2g_ray.config import LoraConfig
from t2g_ray.model.lora import (
    adapted_names,
    adapters_of,
    add_adapters,
    plain_tensors,
    without_adapters,
)
from t2g_ray.model.policy import build_tiny_policy
from t2g_ray.records.corpus import build_tokenizer

pytest.importorskip("peft")

IDS = torch.tensor([[301, 302, 303, 304]])


def plain_policy() -> Any:
    return build_tiny_policy(build_tokenizer(), seed=0).eval()


def adapted_policy(**settings: Any) -> Any:
    policy = plain_policy()
    add_adapters(policy, LoraConfig(rank=2, **settings), seed=1)
    return policy


def moved(policy: Any) -> Any:
    """With adapters that are no longer 0."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return policy


@torch.no_grad()
def logits(policy: Any) -> torch.Tensor:
    result: torch.Tensor = policy(IDS).logits
    return result


def test_adapters_alone_are_trained_and_change_nothing_at_first() -> None:
    policy = adapted_policy()
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    assert torch.equal(logits(policy), logits(plain_policy()))


def test_a_seed_makes_the_same_adapters_and_leaves_the_callers_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = adapted_policy()
    assert torch.equal(torch.rand(1), expected)
    second = adapted_policy()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_its_adapters_the_policy_computes_what_it_did_before() -> None:
    policy, before = moved(adapted_policy()), logits(plain_policy())
    assert not torch.allclose(logits(policy), before, atol=1e-3)
    with without_adapters(policy):
        assert torch.allclose(logits(policy), before, atol=1e-6)
    assert not torch.allclose(logits(policy), before, atol=1e-3)


def test_plain_tensors_make_a_policy_without_adapters_that_computes_the_same() -> None:
    policy, merged = moved(adapted_policy()), plain_policy()
    tensors = {tensor.name: tensor.value() for tensor in plain_tensors(policy)}
    assert list(tensors) == [name for name, _ in merged.named_parameters()]
    merged.load_state_dict(tensors, strict=False)
    assert torch.allclose(logits(merged), logits(policy), atol=1e-5)


@pytest.mark.parametrize("size", [1e-7, 1e-6, 1e-5, 1e-4, 1e-2])
def test_in_bf16_all_that_adapters_add_is_in_the_plain_tensors(size: float) -> None:
    policy = adapted_policy().to(torch.bfloat16)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(size)
    before = dict(plain_policy().to(torch.bfloat16).named_parameters())
    adapted = [tensor for tensor in plain_tensors(policy) if tensor.layer is not None]
    assert len(adapted) == 3 * 7
    for tensor in adapted:
        change = tensor.change()
        assert change is not None and tensor.value().dtype == torch.float32
        found = (tensor.value().double() - before[tensor.name].double()).detach()
        # Both sides at the precision of a weight in fp32.
        assert float((found - change).abs().max()) < 1e-7 * float(tensor.value().abs().max())
        a, b = (part.double() for part in tensor.parts[1:])
        torch.testing.assert_close(change.double(), 32 / 2 * b @ a, rtol=1e-5, atol=1e-12)


def test_a_tensor_is_read_from_its_matrix_and_the_adapter_beside_it() -> None:
    parts = {tensor.name: len(tensor.parts) for tensor in plain_tensors(adapted_policy())}
    assert parts["model.layers.0.mlp.up_proj.weight"] == 3
    assert parts["model.embed_tokens.weight"] == 1


def test_targets_that_no_layer_has_are_refused() -> None:
    with pytest.raises(ValueError, match="no_such_layer"):
        adapted_policy(targets=["no_such_layer"])


def test_factors_and_products_are_what_each_layer_adds() -> None:
    policy = moved(adapted_policy(alpha=3))
    changes = {
        tensor.name: tensor.change() for tensor in plain_tensors(policy) if tensor.layer is not None
    }
    found = list(adapters_of(policy))
    assert [f"{one.layer}.weight" for one in found] == list(changes)
    for adapter in found:
        a, b = adapter.factors()
        assert a.shape[0] == b.shape[1] == 2
        change = changes[f"{adapter.layer}.weight"]
        assert change is not None
        torch.testing.assert_close(b @ a, change)
        probe = torch.linspace(-1, 1, a.shape[1])
        torch.testing.assert_close(adapter.product(probe), change @ probe)
        # Copies: the policy goes on training.
        a.zero_(), b.zero_()
        assert all(bool(part.any()) for part in adapter.parts)


def test_unmerged_tensors_are_those_of_before() -> None:
    policy, before = moved(adapted_policy()), dict(plain_policy().named_parameters())
    tensors = {one.name: one.value() for one in plain_tensors(policy, is_merged=False)}
    assert list(tensors) == list(before)
    assert all(torch.equal(tensors[name], before[name]) for name in before)


@pytest.mark.parametrize("targets", [[], ["q_proj"], ["mlp.up_proj", "self_attn.o_proj"]])
def test_names_of_adapted_layers_are_told_without_the_weights(
    tmp_path: Path, targets: list[str]
) -> None:
    plain_policy().config.save_pretrained(tmp_path)
    lora = LoraConfig(rank=2, targets=targets)
    adapted = {one.layer.rpartition(".")[2] for one in adapters_of(adapted_policy(targets=targets))}
    assert adapted_names(str(tmp_path), lora) == sorted(adapted)
