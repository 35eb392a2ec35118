"""Two ways to compute the same tensor -> how far apart they are, and how far they may be."""

from __future__ import annotations

import torch

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
"""Largest `relative_difference` that rounding explains, by the precision of the computation."""


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of an element, as a share of the largest expected one."""
    return float((found - expected).abs().max() / expected.abs().max())
