"""Log-probs and gradients of whole models in both layouts, against one sample read alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from t2g_ray.learner.batching import collate, cut
from t2g_ray.learner.logprobs import TokenLogProbs
from t2g_ray.model import packed_attention
from t2g_ray.model.attention.choice import NoKernelError
from t2g_ray.model.attention.reference import ReferenceKernel
from t2g_ray.model.packed_attention import (
    NAME,
    NAMES,
    AttentionName,
    NotPackedError,
    enable_packing,
)
from t2g_ray.model.packing import Packing, Segment
from t2g_ray.types import Sample

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PACKED: dict[str, dict[str, Any]] = {
    "Qwen3": {"head_dim": 8, "tie_word_embeddings": True},
    "Llama": {},
    "Qwen2": {"tie_word_embeddings": False},
    "GPT2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}
"""Kinds of models that read packed rows, and what makes each one different."""
PADDED: dict[str, tuple[dict[str, Any], str]] = {
    "Mistral": ({"sliding_window": 4}, "do not see all tokens"),
    "Gemma3Text": ({"head_dim": 8}, "do not see all tokens"),
    "Bloom": ({"n_layer": 2}, "does not use Hugging Face's attention interface"),
    "Mamba": ({"state_size": 4}, "does not use Hugging Face's attention interface"),
}
"""Kinds that do not, and why."""


def policy_of(kind: str, more: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **more)
    policy: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return policy


def packed_policy(kind: str) -> PreTrainedModel:
    policy = policy_of(kind, PACKED[kind])
    assert enable_packing(policy) is None
    return policy


def samples() -> list[Sample]:
    random = np.random.default_rng(0)
    made = []
    for group, (prompt_length, lengths) in enumerate([(5, (1, 4, 7)), (2, (3, 3)), (9, (6,))]):
        prompt = tuple(int(x) for x in random.integers(0, 50, prompt_length))
        for length in lengths:
            made.append(
                Sample(
                    group=group,
                    prompt_ids=prompt,
                    completion_ids=random.integers(0, 50, length).astype(np.int32),
                    sampler_logprobs=np.zeros(length, np.float32),
                    versions=np.zeros(length, np.int32),
                    advantage=1.0,
                )
            )
    return made


def gradients(policy: PreTrainedModel, value: torch.Tensor) -> dict[str, torch.Tensor]:
    policy.zero_grad()
    (value * torch.linspace(-1, 2, len(value))).sum().backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def read_alone(policy: PreTrainedModel) -> torch.Tensor:
    found = []
    for one in samples():
        ids = torch.tensor([[*one.prompt_ids, *one.completion_ids.tolist()]])
        log_p = torch.log_softmax(policy(ids).logits[0, :-1] / 0.7, dim=-1)
        chosen = log_p.gather(-1, ids[0, 1:, None])[:, 0]
        found.append(chosen[len(one.prompt_ids) - 1 :])
    return torch.cat(found)


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        difference = (ours[name] - gradient).abs().max()
        assert difference <= 1e-5 * gradient.abs().max().clamp(min=1), name


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize(
    "layout", ["packed", "recomputed", "varlen", "varlen recomputed", "joined"]
)
def test_all_layouts_equal_the_model_read_one_sample_at_a_time(kind: str, layout: str) -> None:
    policy = policy_of(kind, PACKED[kind])
    expected = read_alone(policy)
    wanted = gradients(policy, expected)
    if layout != "joined":
        attention: AttentionName = "varlen" if "varlen" in layout else "padded"
        assert enable_packing(policy, attention) is None
        assert policy.config._attn_implementation == NAMES[attention]
    if "recomputed" in layout:
        policy.gradient_checkpointing_enable()
        policy.train()
    found, _ = TokenLogProbs(policy)(collate(samples(), is_packed=layout != "joined"), 0.7)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert_equal(gradients(policy, found), wanted)


@pytest.mark.parametrize("kind", PADDED)
def test_other_models_are_refused_with_the_reason_and_compute_padded_rows(kind: str) -> None:
    more, reason = PADDED[kind]
    policy = policy_of(kind, more)
    expected = read_alone(policy)
    assert reason in (enable_packing(policy) or "")
    found, _ = TokenLogProbs(policy)(collate(samples(), is_packed=False), 0.7)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["padded", "varlen"])
def test_a_model_whose_attention_takes_more_than_queries_and_keys_fails_the_probe(
    attention: AttentionName,
) -> None:
    policy = policy_of("GptOss", {"layer_types": ["full_attention"] * 2, "head_dim": 8})
    ids = torch.arange(9)[None]
    before = policy(ids).logits
    assert "its states differ by" in (enable_packing(policy, attention) or "")
    # It is left as it was.
    assert torch.equal(policy(ids).logits, before)


@pytest.mark.parametrize("attention", ["padded", "varlen"])
def test_the_probe_allows_for_the_rounding_of_bf16(attention: AttentionName) -> None:
    policy = policy_of("Qwen2", PACKED["Qwen2"]).to(torch.bfloat16)
    expected = read_alone(policy)
    assert enable_packing(policy, attention) is None
    found, _ = TokenLogProbs(policy)(collate(samples(), is_packed=True), 0.7)
    assert (found - expected).abs().mean() < 0.05


def test_varlen_is_refused_where_the_learner_would_train_without_a_kernel() -> None:
    policy = policy_of("Qwen3", PACKED["Qwen3"])
    before = policy.config._attn_implementation
    with pytest.raises(NoKernelError, match=r"learner.dtype is float32; set .*attention=padded"):
        enable_packing(policy, "varlen", torch.device("cuda", 0))
    assert policy.config._attn_implementation == before


def test_varlen_is_refused_for_a_model_that_drops_out_in_attention() -> None:
    with pytest.raises(NoKernelError, match=r"asks for dropout of 0\.1 in attention"):
        enable_packing(policy_of("Qwen3", {"attention_dropout": 0.1}), "varlen")


def test_varlen_is_refused_for_values_of_another_size_than_queries() -> None:
    q, v = torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 4)
    packing = Packing(segments=(Segment(start=0, length=3),))
    with pytest.raises(NoKernelError, match="of queries have size 8 and those of values 4"):
        packed_attention.varlen_attention(torch.nn.Module(), q, q, v, None, packing=packing)


def test_varlen_computes_with_the_kernel_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("Qwen3", PACKED["Qwen3"])
    probed = list[tuple[Any, ...]]()
    monkeypatch.setattr(
        packed_attention, "check_kernel", lambda *given, **more: probed.append((given, more))
    )
    assert enable_packing(policy, "varlen") is None
    given, more = probed[0]
    assert isinstance(given[0], ReferenceKernel)
    assert given[1:] == (torch.device("cpu"), torch.float32)
    assert more == {"heads": (4, 2), "size": 8}


@pytest.mark.parametrize("token_budget", [16, 20, 30])
def test_the_gradient_does_not_depend_on_the_cut(token_budget: int) -> None:
    policy = packed_policy("Qwen3")
    model = TokenLogProbs(policy)

    def gradient(budget: int) -> dict[str, torch.Tensor]:
        policy.zero_grad()
        for part in cut(samples(), token_budget=budget, is_packed=True):
            micro = collate(part, is_packed=True)
            (model(micro, 1.0)[0] * micro.targets).sum().backward()
        return {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}

    assert len(cut(samples(), token_budget=token_budget, is_packed=True)) > 1
    assert_equal(gradient(token_budget), gradient(1000))


def test_the_same_batch_gives_the_same_bits() -> None:
    def once() -> dict[str, torch.Tensor]:
        policy = packed_policy("Qwen3")
        found, _ = TokenLogProbs(policy)(collate(samples(), is_packed=True), 0.7)
        return gradients(policy, found)

    first, second = once(), once()
    assert all(torch.equal(first[name], second[name]) for name in first)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest result of any operation, in elements."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


def test_no_tensor_of_row_times_row_is_made() -> None:
    policy, micro = packed_policy("Qwen3"), collate(samples() * 40, is_packed=True)
    num_tokens = micro.num_tokens
    with LargestTensor() as seen:
        TokenLogProbs(policy)(micro, 1.0)
    assert seen.largest < num_tokens**2 / 10


def test_a_packed_model_refuses_to_be_read_without_a_packing() -> None:
    policy = packed_policy("Llama")
    assert policy.config._attn_implementation == NAME
    with pytest.raises(NotPackedError, match="must be called with a packing, found none"):
        policy(torch.arange(4)[None])
