"""Exact counts of records -> 95 % intervals of F1 and of its change, by bootstrap over records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from t2g_ray.graph.counts import GraphCounts

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval."""


INTERVAL_KEYS = ("f1/entities", "f1/relations", "f1/mean")


def bootstrap_interval(
    counts: Sequence[GraphCounts], *, seed: int, samples: int = 2000
) -> dict[str, Interval]:
    """95 % percentile bootstrap intervals over records of INTERVAL_KEYS.

    "f1/mean" is the mean of entity and relation F1. Efron and Tibshirani 1993, chapter 13.
    """
    return _ends(_resampled_f1([counts], seed=seed, samples=samples)[0])


def paired_interval(
    before_counts: Sequence[GraphCounts],
    after_counts: Sequence[GraphCounts],
    *,
    seed: int,
    samples: int = 2000,
) -> dict[str, Interval]:
    """95 % intervals of the change (after - before) of INTERVAL_KEYS, paired over records.

    Both sides are resampled by the same draw of records, so what makes a record hard cancels.
    Raises ValueError when the sides do not pair.
    """
    return mean_paired_interval([(before_counts, after_counts)], seed=seed, samples=samples)


def mean_paired_interval(
    pairs: Sequence[tuple[Sequence[GraphCounts], Sequence[GraphCounts]]],
    *,
    seed: int,
    samples: int = 2000,
) -> dict[str, Interval]:
    """`paired_interval` of the mean change over several pairs, as of runs with other seeds.

    Each pair has records of its own, which are drawn independently of the others'.
    """
    changes = []
    for number, (before_counts, after_counts) in enumerate(pairs):
        if not before_counts or len(before_counts) != len(after_counts):
            raise ValueError(
                "a paired interval needs the same records before and after, at least one, found "
                f"{len(before_counts)} and {len(after_counts)}"
            )
        sides = [before_counts, after_counts]
        before, after = _resampled_f1(sides, seed=seed + number, samples=samples)
        changes.append(after - before)
    return _ends(np.mean(changes, axis=0))


def _resampled_f1(
    sides: Sequence[Sequence[GraphCounts]], *, seed: int, samples: int
) -> list[npt.NDArray[np.float64]]:
    """For each side [samples, 3]: INTERVAL_KEYS on resampled records, one draw for all sides."""
    num_records = len(sides[0])
    # How often each record is drawn: [samples, records]. Counts add, so a product does the rest.
    draws = np.random.default_rng(seed).multinomial(
        num_records, np.full(num_records, 1 / num_records), size=samples
    )
    results = []
    for side in sides:
        totals = (draws @ np.array([one.as_row() for one in side])).reshape(samples, 2, 3)
        tp, errors = totals[..., 0], totals[..., 1] + totals[..., 2]
        # Nothing to find and nothing found is right, as in Counts.f1.
        f1 = np.where(tp + errors == 0, 1.0, 2 * tp / np.maximum(2 * tp + errors, 1))
        results.append(np.concatenate([f1, f1.mean(axis=1, keepdims=True)], axis=1))
    return results


def _ends(values: npt.NDArray[np.float64]) -> dict[str, Interval]:
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return {key: (float(low[i]), float(high[i])) for i, key in enumerate(INTERVAL_KEYS)}
