"""A policy written tensor by tensor, against what transformers writes of it."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from t2g_ray.model.files.export import export_policy
from t2g_ray.model.lora import plain_tensors
from t2g_ray.model.policy import build_tiny_policy
from t2g_ray.records.corpus import build_tokenizer

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def untied() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False))


def experts() -> PreTrainedModel:
    """Its layers hold all experts in one tensor, and its files each of them alone."""
    config = Qwen3MoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    return Qwen3MoeForCausalLM(config)


POLICIES = {
    "tied": lambda: build_tiny_policy(build_tokenizer(), seed=0),
    "untied": untied,
    "experts": experts,
    "two precisions": lambda: with_a_part_in_fp32(untied().to(torch.bfloat16)),
}


def with_a_part_in_fp32(policy: PreTrainedModel) -> PreTrainedModel:
    policy.base_model.norm.float()
    return policy


def tensors(policy: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    return ((plain.name, plain.value()) for plain in plain_tensors(policy))


def contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


# transformers keeps the experts of a layer in one file, because they share memory.
@pytest.mark.parametrize(
    ("name", "size"),
    [(name, "50GB") for name in POLICIES] + [(n, "10KB") for n in POLICIES if n != "experts"],
)
def test_files_are_those_of_save_pretrained_byte_for_byte(
    tmp_path: Path, name: str, size: str
) -> None:
    policy = POLICIES[name]()
    policy.save_pretrained(tmp_path / "theirs", max_shard_size=size)
    export_policy(policy, tensors(policy), tmp_path / "own", shard_size=size)
    assert contents(tmp_path / "own") == contents(tmp_path / "theirs")
    assert (len(contents(tmp_path / "own")) > 5) == (size == "10KB")


def test_a_model_is_read_back_in_the_precision_asked_for(tmp_path: Path) -> None:
    policy = untied().to(torch.bfloat16)
    export_policy(policy, tensors(policy), tmp_path, dtype=torch.float32)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    for own, found in zip(policy.parameters(), again.parameters(), strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(own.float(), found)


def test_experts_are_read_back_from_many_files(tmp_path: Path) -> None:
    policy = experts()
    export_policy(policy, tensors(policy), tmp_path, shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 12
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    for own, found in zip(policy.parameters(), again.parameters(), strict=True):
        assert torch.equal(own, found)


def test_one_tensor_is_held_at_a_time(tmp_path: Path) -> None:
    policy, made, held = untied(), list[weakref.ref[torch.Tensor]](), list[int]()

    def watched() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in tensors(policy):
            made.append(weakref.ref(copied := tensor.clone()))
            yield name, copied
            del copied
            held.append(sum(reference() is not None for reference in made))

    export_policy(policy, watched(), tmp_path)
    assert len(held) > 20
    assert max(held) <= 1  # the one that was just written


def test_files_of_an_earlier_export_are_replaced(tmp_path: Path) -> None:
    policy = untied()
    export_policy(policy, tensors(policy), tmp_path, shard_size="10KB")
    export_policy(policy, tensors(policy), tmp_path)
    assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]


def test_a_tensor_that_did_not_come_is_named(tmp_path: Path) -> None:
    policy = untied()
    some = list(tensors(policy))[1:]
    with pytest.raises(ValueError, match=r"1 did not come, such as model\.embed_tokens\.weight"):
        export_policy(policy, some, tmp_path)
