"""What only a GPU can show: bf16 parity and a verified sync into an engine on the device.

Not yet run on a GPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from t2g_ray.model.policy import build_tiny_policy, save_policy
    from t2g_ray.records.corpus import build_tokenizer

    path = tmp_path_factory.mktemp("policy")
    tokenizer = build_tokenizer()
    save_policy(build_tiny_policy(tokenizer, seed=0), tokenizer, path)
    return path


def test_synced_weights_are_verified_and_log_probs_agree_in_bf16(folder: Path) -> None:
    from t2g_ray.learner.batching import collate_policy
    from t2g_ray.learner.logprobs import TokenLogProbs
    from t2g_ray.model.packed_attention import enable_packing
    from t2g_ray.model.policy import load_policy
    from t2g_ray.prompts.messages import encode_prompt
    from t2g_ray.records.corpus import generate_records
    from t2g_ray.rollout.engine import GenerationEngine
    from t2g_ray.rollout.spec import EngineSpec, Sampling
    from t2g_ray.types import Prompt, Sample
    from t2g_ray.weights.manifest import Manifest, pack_buckets

    policy, tokenizer = load_policy(folder, dtype=torch.bfloat16)
    policy.to("cuda")
    spec = EngineSpec(
        model=str(folder),
        dtype="bfloat16",
        max_model_len=256,
        max_sequences=64,
        threads=1,
        gpus=1,
        tensor_parallel=1,
        kv_cache_gib=1,
        gpu_memory_utilization=0.3,
        seed=0,
        sampler=0,
    )
    engine = GenerationEngine(spec)
    buckets = list(pack_buckets(policy.named_parameters(), bucket_bytes=1 << 20))
    entries = tuple(entry for _, part in buckets for entry in part)
    manifest = Manifest(version=0, entries=entries, num_buckets=len(buckets))
    engine.load(manifest, [data for data, _ in buckets], verify=True)

    record = generate_records("train", 1, seed=0)[0]
    ids = encode_prompt(tokenizer, record, style="compact", thinking=False, max_tokens=None)
    prompt = Prompt(index=0, token_ids=ids)
    engine.add(prompt, Sampling(group_size=4, temperature=1.0, max_new_tokens=32))
    groups = []
    while engine.is_busy:
        groups += engine.step()
    samples = [
        Sample(
            group=0,
            prompt_ids=ids,
            completion_ids=completion.token_ids,
            sampler_logprobs=completion.logprobs,
            versions=completion.versions,
            advantage=0.0,
        )
        for completion in groups[0].completions
    ]
    assert enable_packing(policy) is None
    micro = collate_policy(samples, is_packed=True).to(torch.device("cuda"))
    with torch.no_grad():
        logprobs, _ = TokenLogProbs(policy)(micro, 1.0)
    difference = (logprobs.float() - micro.sampler_logprobs).abs().mean().item()
    assert np.isfinite(difference)
    assert difference < 0.05
