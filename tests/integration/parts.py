"""Tiny policies made on the spot, and the ways in which tests drive the real parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from t2g_ray.config import GrpoConfig, PromptConfig, build_config
from t2g_ray.graph import Graph
from t2g_ray.model.files.names import checkpoint_tensors
from t2g_ray.model.policy import EMBEDDING_STD, build_tiny_policy, save_policy
from t2g_ray.prompts.load import encode_prompts
from t2g_ray.records.corpus import build_tokenizer, generate_records
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.types import Group, Prompt, Record
from t2g_ray.weights.manifest import MIB, Bucket, Manifest, pack_buckets

RECORD = Record(text="Ann.", entity_types=("person",), relation_types=(), graph=Graph((), ()))
FIRST_WORD = 300
"""Ids from here on are plain words of the embedded tokenizer."""


def make_policy(kind: Literal["tied", "untied", "moe"], seed: int = 0) -> PreTrainedModel:
    """An untrained policy with clear preferences: `tied` is the embedded one, `untied` has biases
    in attention and a head of its own, `moe` has four experts, of which a token takes two."""
    tokenizer = build_tokenizer()
    policy: PreTrainedModel = build_tiny_policy(tokenizer, seed=seed)
    if kind == "untied":
        policy = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=1024,
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    elif kind == "moe":
        policy = make_moe_policy(seed=seed)
    return disturb(policy, seed=seed, scale=0.1)


def make_moe_policy(*, seed: int) -> PreTrainedModel:
    """An untrained mixture of experts of 0.1 M parameters."""
    tokenizer = build_tokenizer()
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        moe_intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=4,
        num_experts_per_tok=2,
        decoder_sparse_step=1,
        norm_topk_prob=True,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = Qwen3MoeForCausalLM(config)
        torch.nn.init.normal_(policy.model.embed_tokens.weight, std=EMBEDDING_STD)
    return policy


def disturb(policy: PreTrainedModel, *, seed: int, scale: float) -> PreTrainedModel:
    """Add noise to every weight, as an optimiser step would change all of them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * noise.to(parameter.dtype))
    policy.eval()
    return policy


def write_policy(folder: Path, policy: PreTrainedModel) -> Path:
    """Save it with the embedded tokenizer."""
    save_policy(policy, build_tokenizer(), folder)
    return folder


def spec_of(model: Path, *, dtype: str = "float32", seed: int = 0, **more: Any) -> EngineSpec:
    """A small engine on one thread."""
    return EngineSpec(
        model=str(model),
        dtype=dtype,
        max_model_len=384,
        max_sequences=64,
        threads=1,
        gpus=0,
        tensor_parallel=1,
        kv_cache_gib=1,
        gpu_memory_utilization=0.5,
        seed=seed,
        sampler=0,
        more={"use_tqdm_on_load": False, **more},
    )


def pack(
    policy: PreTrainedModel, version: int, *, bucket_mib: float = 0.25
) -> tuple[Manifest, list[Bucket]]:
    """What the learner would send: several buckets."""
    tensors = [
        pair
        for name, parameter in policy.named_parameters()
        for pair in checkpoint_tensors(policy, name, parameter.detach())
    ]
    packed = list(pack_buckets(tensors, bucket_bytes=int(bucket_mib * MIB)))
    entries = tuple(entry for _, part in packed for entry in part)
    return (
        Manifest(version=version, entries=entries, num_buckets=len(packed)),
        [data for data, _ in packed],
    )


def prompts_of(num: int, length: int, *, seed: int = 0) -> list[Prompt]:
    """Prompts of random words."""
    random = np.random.default_rng(seed)
    rows = random.integers(FIRST_WORD, len(build_tokenizer()), (num, length))
    return [Prompt(index=i, token_ids=tuple(int(x) for x in row)) for i, row in enumerate(rows)]


def generate(
    engine: GenerationEngine, prompts: Sequence[Prompt], sampling: Sampling
) -> list[Group]:
    """All groups, by prompt index."""
    for prompt in prompts:
        engine.add(prompt, sampling)
    groups: list[Group] = []
    while engine.is_busy:
        groups += engine.step()
    return sorted(groups, key=lambda group: group.prompt.index)


def reference_logprobs(
    policy: PreTrainedModel, group: Group, temperature: float
) -> list[np.ndarray[Any, Any]]:
    """Log-probs of each completion's tokens by transformers, one sequence at a time."""
    start = len(group.prompt.token_ids) - 1
    results = []
    with torch.no_grad():
        for completion in group.completions:
            ids = torch.tensor([[*group.prompt.token_ids, *completion.token_ids.tolist()]])
            logits = policy(ids).logits[0, :-1].float() / temperature
            log_p = torch.log_softmax(logits, dim=-1).gather(-1, ids[0, 1:, None])[:, 0]
            results.append(log_p[start:].numpy())
    return results


def differences(
    policy: PreTrainedModel, groups: Sequence[Group], temperature: float
) -> np.ndarray[Any, Any]:
    """|sampler - transformers| of every token's log-prob."""
    parts = [
        np.abs(completion.logprobs - expected)
        for group in groups
        for completion, expected in zip(
            group.completions, reference_logprobs(policy, group, temperature), strict=True
        )
    ]
    return np.concatenate(parts)


ANSWER = '{"entities":[{"id":0,"text":"Ann","type":"person"}],"relations":[]}'


def make_wavering_policy(kind: Literal["tied", "moe"] = "tied") -> PreTrainedModel:
    """An untrained policy, taught one answer to all texts until it gets it right half of the time.

    Its rewards differ inside a group, which an untrained policy's do not.
    """
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    policy: PreTrainedModel = build_tiny_policy(tokenizer, seed=0)
    if kind == "moe":
        policy = make_moe_policy(seed=0)
    records = generate_records("rl", 16, seed=1, level="medium")
    pairs, _ = encode_prompts(tokenizer, records, PromptConfig(style="compact", max_tokens=160))
    answer = [*tokenizer.encode(ANSWER, add_special_tokens=False), tokenizer.eos_token_id]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    for step in range(400):
        _, prompt = pairs[step % len(pairs)]
        ids = torch.tensor([[*prompt, *answer]])
        log_p = torch.log_softmax(policy(ids).logits[0, :-1], dim=-1)
        loss = -log_p.gather(-1, ids[0, 1:, None])[len(prompt) - 1 :].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() * len(answer) < 1.2:
            policy.eval()
            return policy
    raise RuntimeError(f"the policy must learn one answer in 400 steps, found a loss of {loss}")


def grpo_config(run_dir: Path | str, model: Path | str, **tree: Any) -> GrpoConfig:
    """A GRPO run of seconds."""
    settings: dict[str, Any] = {
        "run_dir": str(run_dir),
        "model": str(model),
        "steps": 4,
        "prompts_per_step": 3,
        "group_size": 4,
        "data": {"part": "rl", "train_records": 40, "heldout_records": 4},
        "prompt": {"style": "compact", "max_tokens": 160},
        "sampling": {"max_new_tokens": 48},
        "learner": {"token_budget": 512, "optimizer": {"lr": 1e-3}},
        "checkpoint": {"every": 2},
    }
    for key, value in tree.items():
        merged = isinstance(value, dict) and isinstance(settings.get(key), dict)
        settings[key] = {**settings[key], **value} if merged else value
    return build_config(GrpoConfig, settings)
