"""Token log-probs -> the loss of a micro-batch, and the sums behind the metrics.

    loss = sum over tokens of
           share * (importance * (kl_coef * kl - objective) - entropy_coef * entropy)

Each factor is a small function chosen by name in `AlgorithmConfig`; docs/algorithms.md has the
equations, and says which expectation each term estimates when another policy wrote the tokens.
Axes: K trained tokens of the micro-batch (docs/glossary.md).

Invariant: everything returned is a sum over tokens whose summands depend on their own sample
alone; the caller divides by constants of the whole batch, so cutting the batch in another way
changes the result by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import torch

from t2g_ray.config import AlgorithmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """The trained tokens of a micro-batch, [K] each; only the first two carry gradient.

    `sample_of` numbers the samples of the micro-batch from 0; a sample's tokens are all here.
    Example: logprobs=[-0.1, -0.7, -1.2], sample_of=[0, 0, 1].
    """

    logprobs: torch.Tensor
    """Of the policy that is being trained."""
    entropies: torch.Tensor
    old_logprobs: torch.Tensor
    """Of the policy before the first update on this batch."""
    sampler_logprobs: torch.Tensor
    """Of the policy that wrote the token, as the sampler reported it."""
    reference_logprobs: torch.Tensor | None
    """Of the starting policy; None where no KL is asked for."""
    advantages: torch.Tensor
    sample_of: torch.Tensor
    is_current: torch.Tensor
    """Whether the token, and all of its completion before it, was written by the weights that the
    step starts from."""


MAXIMUM = {"over": "maximum"}
"""Marks a field that is combined by its maximum (at least 1) instead of its sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSums:
    """Sums over the K tokens of a micro-batch (`max_ratio` is a maximum)."""

    loss: torch.Tensor
    num_tokens: torch.Tensor
    entropy: torch.Tensor
    kl: torch.Tensor
    mismatch_kl: torch.Tensor
    mismatch: torch.Tensor
    current_mismatch: torch.Tensor
    """Part of `mismatch`, at the tokens counted by `num_current`."""
    num_current: torch.Tensor
    clipped: torch.Tensor
    truncated: torch.Tensor
    max_ratio: torch.Tensor = field(metadata=MAXIMUM)


def policy_loss(tokens: TokenBatch, algorithm: AlgorithmConfig) -> LossSums:
    """Sums of one micro-batch; `loss` must still be divided by `loss_divisor`."""
    log_ratio = log_ratios(tokens, level=algorithm.ratio)
    objective, is_clipped = OBJECTIVES[algorithm.objective](log_ratio, tokens, algorithm)
    weights, is_truncated = importance_weights(tokens, algorithm)
    losses = -(weights * objective)
    kl = torch.zeros_like(losses)
    if tokens.reference_logprobs is not None:
        kl = weights * kl_penalties(tokens, tokens.reference_logprobs, algorithm)
        losses = losses + algorithm.kl_coef * kl
    if algorithm.entropy_coef:
        # The entropy sums over all tokens that could follow, so only who wrote the tokens before
        # matters to it: a weight of this token alone would add noise and correct nothing.
        bonus = tokens.entropies
        bonus = weights * bonus if algorithm.importance_level == "sequence" else bonus
        losses = losses - algorithm.entropy_coef * bonus
    mismatch = tokens.old_logprobs - tokens.sampler_logprobs
    return LossSums(
        loss=(token_shares(tokens.sample_of, algorithm) * losses).sum(),
        num_tokens=torch.ones_like(losses).sum(),
        entropy=tokens.entropies.detach().sum(),
        kl=kl.detach().sum(),
        mismatch_kl=kl_k3(tokens.sampler_logprobs, tokens.old_logprobs).sum(),
        mismatch=mismatch.abs().sum(),
        current_mismatch=mismatch.abs()[tokens.is_current].sum(),
        num_current=tokens.is_current.float().sum(),
        clipped=is_clipped.float().sum(),
        truncated=is_truncated.float().sum(),
        max_ratio=mismatch.abs().max().exp(),
    )


# --- ratio of the policy to the one before the first update ---


def log_ratios(tokens: TokenBatch, *, level: Literal["token", "sequence"]) -> torch.Tensor:
    """log pi / pi_old of each token, or its mean over the token's sample, [K].

    The mean is GSPO's length-normalised sequence ratio (arXiv:2507.18071), eq. 7, and its gradient
    reaches each token through that token's own log-prob (GSPO-token, eq. 14): the same in sum, and
    a weight of a token then weighs that token's gradient and no other's.
    """
    difference = tokens.logprobs - tokens.old_logprobs
    if level == "token":
        return difference
    known = difference.detach()
    mean = _sums_by_sample(known, tokens.sample_of) / _lengths(tokens.sample_of)
    return mean + (difference - known)


# --- objectives: what is maximised for each token [K], and whether its bound was active ---


def clipped_objective(
    log_ratio: torch.Tensor, tokens: TokenBatch, algorithm: AlgorithmConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """min(r A, clip(r, 1 - low, 1 + high) A).

    PPO (arXiv:1707.06347), eq. 7, with separate bounds as in DAPO (arXiv:2503.14476), eq. 10.
    """
    ratio = log_ratio.exp()
    free = ratio * tokens.advantages
    bounded = ratio.clamp(1 - algorithm.clip_low, 1 + algorithm.clip_high) * tokens.advantages
    return torch.minimum(free, bounded), bounded < free


def cispo_objective(
    log_ratio: torch.Tensor, tokens: TokenBatch, algorithm: AlgorithmConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """stop_gradient(min(r, 1 + high)) A log pi. CISPO (arXiv:2506.13585), eq. 4 and 5.

    As in the paper there is no lower bound, and no token loses its gradient.
    """
    ratio, bound = log_ratio.detach().exp(), 1 + algorithm.clip_high
    return ratio.clamp(max=bound) * tokens.advantages * tokens.logprobs, ratio > bound


Objective = Callable[[torch.Tensor, TokenBatch, AlgorithmConfig], tuple[torch.Tensor, torch.Tensor]]
OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {"clip": clipped_objective, "cispo": cispo_objective}
)


# --- correction for tokens that were written by another policy than pi_old ---


def importance_weights(
    tokens: TokenBatch, algorithm: AlgorithmConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """w = pi_old / mu of each token or its whole sample, bounded; and where the bound acted, [K].

    truncate: min(w, cap), truncated importance sampling (Ionides 2008; for a sampler that
    differs from the learner arXiv:2503.14286). mask: 0 outside [1 / cap, cap] (IcePop). At the
    sequence level w is the product over the sample's tokens.
    """
    log_weight = tokens.old_logprobs - tokens.sampler_logprobs
    if algorithm.importance_level == "sequence":
        log_weight = _sums_by_sample(log_weight, tokens.sample_of)
    weight, cap = log_weight.exp(), algorithm.importance_cap
    if algorithm.importance == "none":
        return torch.ones_like(weight), torch.zeros_like(weight, dtype=torch.bool)
    if algorithm.importance == "truncate":
        return weight.clamp(max=cap), weight > cap
    is_outside = (weight > cap) | (weight < 1 / cap)
    return weight.masked_fill(is_outside, 0.0), is_outside


# --- estimates of KL(pi | other) from tokens that pi wrote (Schulman 2020), [K] ---


def kl_k1(logprobs: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """log pi / other: unbiased, of high variance; its gradient is zero in expectation."""
    return logprobs - other


def kl_k2(logprobs: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(log pi / other)^2 / 2: biased in value, unbiased in gradient."""
    return 0.5 * (logprobs - other) ** 2


def kl_k3(logprobs: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """other / pi - 1 - log other / pi: unbiased, never negative, of low variance."""
    log_ratio = other - logprobs
    return log_ratio.exp() - 1 - log_ratio


KL_ESTIMATES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = MappingProxyType(
    {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}
)


def kl_penalties(
    tokens: TokenBatch, reference: torch.Tensor, algorithm: AlgorithmConfig
) -> torch.Tensor:
    """pi / pi_old times the chosen estimate of KL(pi | reference), [K].

    The ratio is the token's own whatever `ratio` says: after the first update pi_old wrote the
    token, and an estimate wants tokens of pi. With `kl_unbiased` it carries gradient too
    (DeepSeek-V3.2, arXiv:2512.02556).
    """
    ratio = (tokens.logprobs - tokens.old_logprobs).exp()
    estimate = KL_ESTIMATES[algorithm.kl_estimator](tokens.logprobs, reference)
    return (ratio if algorithm.kl_unbiased else ratio.detach()) * estimate


# --- normalisation: loss = sum of share * token loss / divisor ---


def token_shares(sample_of: torch.Tensor, algorithm: AlgorithmConfig) -> torch.Tensor:
    """Share of each token in the loss, [K]: 1 / T where all completions count the same, else 1."""
    if algorithm.normalisation == "sequences":
        return 1 / _lengths(sample_of)
    return torch.ones_like(sample_of, dtype=torch.float32)


def loss_divisor(lengths: Sequence[int], algorithm: AlgorithmConfig, max_new_tokens: int) -> float:
    """What the sum over the whole batch is divided by; `lengths` of all its trained completions.

    tokens: mean over tokens (DAPO, arXiv:2503.14476, eq. 8). sequences: mean over completions of
    their means (GRPO, arXiv:2402.03300, eq. 3). constant: the most tokens that this number of
    completions can have (Dr.GRPO, arXiv:2503.20783).
    """
    if algorithm.normalisation == "tokens":
        return float(sum(lengths))
    per_sequence = 1 if algorithm.normalisation == "sequences" else max_new_tokens
    return float(len(lengths) * per_sequence)


def _lengths(sample_of: torch.Tensor) -> torch.Tensor:
    """Trained tokens of each token's sample, [K]."""
    return sample_of.bincount()[sample_of].float()


def _sums_by_sample(values: torch.Tensor, sample_of: torch.Tensor) -> torch.Tensor:
    """Sum over the sample of each token, [K]."""
    num_samples = int(sample_of.max()) + 1
    sums = values.new_zeros(num_samples).index_add(0, sample_of, values)
    return sums[sample_of]
