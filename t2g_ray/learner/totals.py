"""Sums of micro-batches -> metrics of a step, the same on every rank.

Invariant: sums are added up in double precision over micro-batches, updates and ranks, and only
then divided, so that no mean of means is ever taken.
"""

from __future__ import annotations

from dataclasses import fields

import torch
import torch.distributed as dist

from t2g_ray.algorithm.loss import LossSums

NAMES = tuple(field.name for field in fields(LossSums) if field.name != "max_ratio")


class StepTotals:
    """Collects the sums of one step on one rank."""

    def __init__(self) -> None:
        self._totals = torch.zeros(len(NAMES), dtype=torch.float64)
        self._max_ratio = torch.ones(1, dtype=torch.float64)

    def add(self, sums: LossSums, *, weight: float) -> None:
        """Count a micro-batch with `weight` 1, or a filler with 0."""
        parts = torch.stack([getattr(sums, name).detach() for name in NAMES])
        self._totals += weight * parts.double().cpu()
        if weight:
            ratio = sums.max_ratio.detach().double().cpu()
            self._max_ratio = torch.maximum(self._max_ratio, ratio)

    def metrics(self, *, divisor: float, num_updates: int) -> dict[str, float]:
        """Means over tokens and updates, of all ranks; collective."""
        dist.all_reduce(self._totals)
        dist.all_reduce(self._max_ratio, op=dist.ReduceOp.MAX)
        total = dict(zip(NAMES, (self._totals / num_updates).tolist(), strict=True))
        tokens = total["num_tokens"]
        return {
            "loss": total["loss"] / divisor,
            "entropy": total["entropy"] / tokens,
            "kl": total["kl"] / tokens,
            "clip_fraction": total["clipped"] / tokens,
            "mismatch/kl": total["mismatch_kl"] / tokens,
            "mismatch/max_ratio": float(self._max_ratio),
            "mismatch/truncated_share": total["truncated"] / tokens,
            "mismatch/logprob_difference": total["mismatch"] / tokens,
            "tokens/loss": tokens,
        }
