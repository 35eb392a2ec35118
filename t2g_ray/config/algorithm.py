"""The names of the parts that an algorithm is made of, and their numbers.

`advantages` and `loss` hold the function behind each name.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from t2g_ray.config.section import Section


class AlgorithmConfig(Section):
    """How rewards become a gradient; docs/algorithms.md has the equations."""

    advantage: Literal[
        "group_std", "group_mean", "leave_one_out", "batch_std", "group_mean_batch_std"
    ] = "group_mean_batch_std"
    """How rewards become advantages: group_std is GRPO's and needs reward.level record, group_mean
    is Dr.GRPO's, leave_one_out RLOO's, batch_std REINFORCE++'s, group_mean_batch_std
    REINFORCE++-baseline's."""
    objective: Literal["clip", "cispo"] = "clip"
    """What is maximised for each token: PPO's clipped ratio, or CISPO's weighted log-prob."""
    ratio: Literal["token", "sequence"] = "token"
    """Ratio of new to old policy: of each token, or of its whole completion (GSPO)."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Ratio is clipped below 1 - clip_low; cispo has no lower bound."""
    clip_high: float = Field(default=0.28, gt=0)
    """Ratio is clipped above 1 + clip_high."""
    normalisation: Literal["tokens", "sequences", "constant"] = "tokens"
    """Mean over tokens of the batch (DAPO), mean over completions of their means (GRPO), or sum
    over completions x sampling.max_new_tokens (Dr.GRPO)."""
    updates_per_batch: int = Field(default=1, ge=1)
    """Optimiser steps on each batch; every step uses the whole batch."""
    mask_truncated: bool = False
    """Leave completions that ended at the length limit out of the loss; their rewards still count
    in the means and deviations."""
    importance: Literal["truncate", "mask", "none"] = "truncate"
    """Importance weight, in objective and KL, of tokens that another policy wrote: truncated at
    importance_cap, 0 outside [1 / importance_cap, importance_cap], or always 1."""
    importance_level: Literal["token", "sequence"] = "token"
    """Importance weight of each token by itself, or the product over its completion; only the
    latter corrects which prefixes were written, and weighs the entropy too."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Bound of the importance weight."""
    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of the KL to the policy that the run started from; above 0 each learner rank holds a
    frozen copy of it."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Estimator of that KL for each token."""
    kl_unbiased: bool = False
    """Let the ratio of the token to the old policy, by which that estimate is multiplied, carry
    gradient: that of k1 and k3 is then the KL's own."""
    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus, which is subtracted from the loss."""
    parity_tolerance: float | None = Field(default=None, gt=0)
    """Largest mean |log-prob difference| in nats between sampler and learner on the same weights;
    when not given, 1e-5 where both compute in fp32 (on GPUs, whose attention multiplies in TF32,
    0.00625), else 0.05."""
    stale_parity_tolerance: float = Field(default=0.5, gt=0)
    """The same for tokens that weights of earlier steps wrote (max_staleness above 0): further away
    than a policy moves in so many steps."""
