"""Rewards of a group -> one advantage for each completion.

Invariant: the advantages of a group with equal rewards are all zero, so that such a group is
counted as carrying no signal and is not trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev
from types import MappingProxyType

STD_FLOOR = 1e-4
"""Added to the deviation; keeps a nearly equal group from being blown up."""


def group_mean(rewards: Sequence[float]) -> list[float]:
    """r - mean(r). Dr.GRPO (arXiv:2503.20783), eq. 3."""
    mean = fmean(rewards)
    return [reward - mean for reward in rewards]


def group_std(rewards: Sequence[float]) -> list[float]:
    """(r - mean(r)) / std(r). GRPO (arXiv:2402.03300), section 4.1.2."""
    scale = pstdev(rewards) + STD_FLOOR
    return [advantage / scale for advantage in group_mean(rewards)]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """r - mean of the others. RLOO (arXiv:2402.14740), eq. 8."""
    size = len(rewards)
    return [advantage * size / (size - 1) for advantage in group_mean(rewards)]


ADVANTAGES: Mapping[str, Callable[[Sequence[float]], list[float]]] = MappingProxyType(
    {"group_mean": group_mean, "group_std": group_std, "leave_one_out": leave_one_out}
)


def has_signal(rewards: Sequence[float]) -> bool:
    """Whether any two rewards of the group differ."""
    return max(rewards) - min(rewards) > 1e-9
