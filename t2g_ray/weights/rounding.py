"""Tensors in fp32 -> the sampler's number format, without losing what was learned.

A step changes a weight by less than the distance between two numbers of bf16. Rounded to the
nearest, the weight stays as it was, step after step, and the sampler with it. Rounded at random, up
with a chance that grows with the rest, it is right on average over weights and over versions
(stochastic rounding: Gupta et al. 2015, arXiv:1502.02551, section 3).

Invariant: the mean of what a value above 1e-34 is rounded to is the value, a value that the format
has stays as it is, and the same seed gives the same result.
"""

from __future__ import annotations

import math

import torch

from t2g_ray.weights.manifest import WeightSyncError

MOST_LOST = 0.05
"""Largest share of a change that may be lost in rounding, chance apart."""
SIGMAS = 6.0


def rounded(tensor: torch.Tensor, dtype: torch.dtype, *, seed: int) -> torch.Tensor:
    """The tensor in `dtype`: itself, exactly, or each value as one of its two neighbours there."""
    given, asked = torch.finfo(tensor.dtype), torch.finfo(dtype)
    if given.eps >= asked.eps and given.tiny >= asked.tiny:
        return tensor.to(dtype)
    values = tensor.float()
    _, exponents = torch.frexp(values)
    # From a power of two to the next the format has 1 / eps steps; below the smallest, all equal.
    steps = torch.ldexp(torch.full_like(values, asked.eps), exponents - 1)
    steps = steps.clamp(min=asked.tiny * asked.eps)
    counts = values / steps
    below = counts.floor()
    generator = torch.Generator(device=values.device).manual_seed(seed)
    chance = torch.rand(values.shape, generator=generator, device=values.device)
    found = ((below + (counts - below > chance)) * steps).to(dtype)
    # The steps of the smallest values of bf16 are none that fp32 computes with.
    is_small = values.abs() < torch.finfo(torch.float32).tiny / asked.eps
    return torch.where(is_small, tensor.to(dtype), found)


class ChangeArrived:
    """Adds up how much of a change is lost between the learner's tensors and those that are sent.

    Errors that have nothing to do with the change cancel; what is lost of it does not.
    """

    def __init__(self) -> None:
        self._change = self._lost = self._chance = 0.0

    def add(self, change: torch.Tensor, exact: torch.Tensor, sent: torch.Tensor) -> None:
        """Count one tensor: what training added to it, the whole of it, and what is sent."""
        change = change.double()
        lost = change * (exact.double() - sent.double())
        self._change += float(change.square().sum())
        self._lost += float(lost.sum())
        self._chance += float(lost.square().sum())

    def check(self, version: int) -> None:
        """Raises WeightSyncError where more is lost than `MOST_LOST` and chance explain."""
        limit = MOST_LOST * self._change + SIGMAS * math.sqrt(self._chance)
        if not self._lost <= limit:
            raise WeightSyncError(
                f"at least {1 - MOST_LOST:.0%} of what the adapters learned must be in the weights "
                f"sent to samplers, found {1 - self._lost / self._change:.0%} at version "
                f"{version}; set rollout.dtype=float32"
            )
