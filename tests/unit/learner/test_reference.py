"""The frozen starting policy: what it computes, and that a resume cannot swap it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2g_ray.config import LearnerConfig
from t2g_ray.learner.batching import collate
from t2g_ray.learner.logprobs import TokenLogProbs
from t2g_ray.learner.reference import ReferencePolicy, check_same_start, digest_of_policy
from t2g_ray.model.packed_attention import enable_packing
from t2g_ray.model.policy import build_tiny_policy, save_policy
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.types import Sample

CPU = torch.device("cpu")


def reference_of(folder: Path, *, seed: int) -> ReferencePolicy:
    tokenizer = build_tokenizer()
    save_policy(build_tiny_policy(tokenizer, seed=seed), tokenizer, folder)
    return ReferencePolicy(str(folder), LearnerConfig(), device=CPU, is_packed=True)


def test_a_reference_gives_the_log_probs_of_its_policy_without_gradient(tmp_path: Path) -> None:
    zeros = np.zeros(3, np.float32)
    sample = Sample(
        group=0,
        prompt_ids=(300, 301, 302),
        completion_ids=np.array([400, 401, 402], np.int32),
        sampler_logprobs=zeros,
        versions=zeros.astype(np.int32),
        advantage=1.0,
    )
    micro = collate([sample], is_packed=True)
    found = reference_of(tmp_path, seed=3).logprobs(micro, 0.9)
    policy = build_tiny_policy(build_tokenizer(), seed=3).eval()
    enable_packing(policy)
    # Kernels may round by where the weights lie in memory, which was read here and built there.
    expected = TokenLogProbs(policy)(micro, 0.9)[0].detach()
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert not found.requires_grad


def test_a_resume_under_another_starting_policy_is_refused() -> None:
    own, other = (digest_of_policy(build_tiny_policy(build_tokenizer(), seed=s)) for s in (0, 1))
    check_same_start(own, own, "checkpoint")
    check_same_start(other, None, "checkpoint")  # nothing depends on where it started
    with pytest.raises(ValueError, match=rf"found {other} in checkpoint and {own}"):
        check_same_start(other, own, "checkpoint")
    with pytest.raises(ValueError, match="found none in checkpoint"):
        check_same_start(None, own, "checkpoint")
