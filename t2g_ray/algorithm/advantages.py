"""Rewards of a whole batch -> one advantage for each completion.

Rewards and advantages are [groups][G]; a group has fewer than G where a grader failed. Invariant:
equal rewards in all groups give zero advantages everywhere, so a group without signal is recognised
by its advantages alone and is not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from types import MappingProxyType

from t2g_ray.config import AlgorithmConfig
from t2g_ray.types import GroupSummary

Rewards = Sequence[Sequence[float]]
Advantages = list[list[float]]

STD_FLOOR = 1e-4
"""Added to the deviation, so that differences between nearly equal rewards are not blown up."""


def group_mean(rewards: Rewards) -> Advantages:
    """r - mean of the group. Dr.GRPO (arXiv:2503.20783), eq. 3."""
    return [_centred(group) for group in rewards]


def group_std(rewards: Rewards) -> Advantages:
    """(r - mean) / std of the group. GRPO (arXiv:2402.03300), section 4.1.2.

    The paper names no convention; as in TRL the deviation is the sample's (over G - 1).
    """
    return [_scaled(_centred(group), _deviation(group)) for group in rewards]


def leave_one_out(rewards: Rewards) -> Advantages:
    """r - mean of the others = G / (G - 1) (r - mean). RLOO (arXiv:2402.14740), eq. 8."""
    return [[a * len(group) / (len(group) - 1) for a in _centred(group)] for group in rewards]


def batch_std(rewards: Rewards) -> Advantages:
    """(r - mean) / std of the batch. REINFORCE++ (arXiv:2501.03262), global normalisation.

    A group of equal rewards still gives a gradient here, unless the whole batch is equal.
    """
    everything = [reward for group in rewards for reward in group]
    mean, scale = fmean(everything), _deviation(everything)
    return [_scaled([reward - mean for reward in group], scale) for group in rewards]


def group_mean_batch_std(rewards: Rewards) -> Advantages:
    """(r - mean of the group) / std of these over the batch. REINFORCE++-baseline, ibid."""
    centred = group_mean(rewards)
    scale = _deviation([advantage for group in centred for advantage in group])
    return [_scaled(group, scale) for group in centred]


def _centred(group: Sequence[float]) -> list[float]:
    mean = fmean(group)
    return [reward - mean for reward in group]


def _deviation(values: Sequence[float]) -> float:
    """The sample deviation, which is never 0."""
    return stdev(values) + STD_FLOOR


def _scaled(values: Sequence[float], scale: float) -> list[float]:
    return [value / scale for value in values]


ADVANTAGES: Mapping[str, Callable[[Rewards], Advantages]] = MappingProxyType(
    {
        "group_std": group_std,
        "group_mean": group_mean,
        "leave_one_out": leave_one_out,
        "batch_std": batch_std,
        "group_mean_batch_std": group_mean_batch_std,
    }
)


def has_signal(rewards: Sequence[float]) -> bool:
    """Whether any two rewards of the group differ."""
    return max(rewards) - min(rewards) > 1e-9


def plan_advantages(
    summaries: Sequence[GroupSummary], algorithm: AlgorithmConfig
) -> list[tuple[float | None, ...]]:
    """Advantages [G] of each group of a batch; None masks a completion that is not trained.

    Masked are completions whose grader failed; all completions of a group that has no signal, or
    fewer than two graded ones to compare; and, with `mask_truncated`, completions that ended at the
    length limit (DAPO, arXiv:2503.14476, section 3.4).
    """
    graded = [
        [reward for reward, ok in zip(s.rewards, s.is_valid, strict=True) if ok] for s in summaries
    ]
    compared = [group for group in graded if len(group) > 1]
    advantages = iter(ADVANTAGES[algorithm.advantage](compared) if compared else [])
    plans = [next(advantages) if len(group) > 1 else [] for group in graded]
    return [_masked(s, p, algorithm) for s, p in zip(summaries, plans, strict=True)]


def _masked(
    summary: GroupSummary, advantages: Sequence[float], algorithm: AlgorithmConfig
) -> tuple[float | None, ...]:
    """One value for each completion: None where it is masked, for all of them without signal."""
    if all(abs(advantage) < 1e-9 for advantage in advantages):
        return (None,) * len(summary.rewards)
    values = iter(advantages)
    placed = [next(values) if ok else None for ok in summary.is_valid]
    return tuple(
        None if is_truncated and algorithm.mask_truncated else value
        for value, is_truncated in zip(placed, summary.is_truncated, strict=True)
    )
