"""Token log-probs -> the loss of a micro-batch and sums of what is watched.

Invariant: everything returned is a sum over tokens; the caller divides by constants of the whole
batch, so the result does not depend on how the batch was cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from t2g_ray.config import AlgorithmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSums:
    """Sums over the K tokens of a micro-batch (`max_ratio` is a maximum)."""

    loss: torch.Tensor
    entropy: torch.Tensor
    mismatch_kl: torch.Tensor
    clipped: torch.Tensor
    truncated: torch.Tensor
    max_ratio: torch.Tensor


def importance_weights(
    logprobs: torch.Tensor, sampler_logprobs: torch.Tensor, *, cap: float
) -> torch.Tensor:
    """min(pi / mu, cap) for each token [K], without gradient.

    pi is the policy before this update, mu the one that wrote the token: truncated importance
    sampling (Ionides 2008), for tokens as in arXiv:2503.14286.
    """
    return (logprobs.detach() - sampler_logprobs).exp().clamp(max=cap)


def clipped_objective(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """min(r A, clip(r, 1-low, 1+high) A) and whether the clip was active, [K] each.

    PPO (arXiv:1707.06347), eq. 7, with separate bounds as in DAPO (arXiv:2503.14476), eq. 10.
    """
    ratio = (logprobs - old_logprobs).exp()
    free = ratio * advantages
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return torch.minimum(free, bounded), bounded < free


def policy_loss(
    logprobs: torch.Tensor,
    entropies: torch.Tensor,
    sampler_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    algorithm: AlgorithmConfig,
) -> LossSums:
    """Sums of one micro-batch for one update a batch: the old policy is the present one.

    All arguments are [K]. The ratio is then 1 in value and carries the gradient; what an older
    policy wrote is corrected by the truncated importance weight.
    """
    old = logprobs.detach()
    objective, is_clipped = clipped_objective(
        logprobs, old, advantages, clip_low=algorithm.clip_low, clip_high=algorithm.clip_high
    )
    weights = importance_weights(logprobs, sampler_logprobs, cap=algorithm.importance_cap)
    log_ratio = old - sampler_logprobs
    return LossSums(
        loss=-(weights * objective).sum(),
        entropy=entropies.sum(),
        # k3 estimate of KL(mu | pi) (Schulman 2020): never negative, low variance.
        mismatch_kl=(log_ratio.exp() - 1 - log_ratio).sum(),
        clipped=is_clipped.float().sum(),
        truncated=(log_ratio.exp() > algorithm.importance_cap).float().sum(),
        max_ratio=log_ratio.abs().max().exp(),
    )
