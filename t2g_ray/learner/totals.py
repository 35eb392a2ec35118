"""Sums of micro-batches -> the sums of a step, the same on every rank.

Invariant: sums are added up in double precision over micro-batches, updates and ranks, and only
then divided, so that no mean of means is ever taken.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist

from t2g_ray.algorithm.loss import MAXIMUM

Sums = TypeVar("Sums")


class Totals(Generic[Sums]):
    """Adds up dataclasses of one kind, whose fields are scalar tensors, on one rank."""

    def __init__(self, kind: type[Sums]) -> None:
        described: Any = kind
        self._kind = kind
        maxima = [field.name for field in fields(described) if field.metadata == MAXIMUM]
        sums = [field.name for field in fields(described) if field.name not in maxima]
        self._sums, self._maxima = dict.fromkeys(sums, 0.0), dict.fromkeys(maxima, 1.0)

    def add(self, sums: Sums, *, weight: float) -> None:
        """Count a micro-batch with `weight` 1, or a filler with 0."""
        names = [*self._sums, *self._maxima]
        # One copy from the device for all of them.
        values = torch.stack([getattr(sums, name).detach().double() for name in names]).tolist()
        for name, value in zip(names, values, strict=True):
            if name in self._sums:
                self._sums[name] += weight * value
            elif weight:
                self._maxima[name] = max(self._maxima[name], value)

    def over_ranks(self) -> Sums:
        """The totals over all ranks; collective."""
        reduced = {
            **_reduced(self._sums, dist.ReduceOp.SUM),
            **_reduced(self._maxima, dist.ReduceOp.MAX),
        }
        return self._kind(**reduced)


def _reduced(values: dict[str, float], operation: Any) -> dict[str, torch.Tensor]:
    if not values:
        return {}
    together = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(together, op=operation)
    return dict(zip(values, together, strict=True))
