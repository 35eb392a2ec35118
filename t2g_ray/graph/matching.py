"""Gold keys and predicted keys -> exact matches, and credit for near misses among the rest.

Near misses are paired one to one so that the total credit is the greatest (the assignment problem,
solved by scipy), so the order of an answer changes nothing and a gold item gives credit once.

Invariant: exact matches come first and count 1 each, whatever is near them; a near pair counts at
most 1, so a soft score lies between the exact one and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from t2g_ray.graph.counts import Counts, ItemKey
from t2g_ray.graph.forms import relaxed_form

# Near misses are searched among all pairs of leftovers; with more pairs than this an answer is
# noise.
MAX_NEAR_PAIRS = 4096
OTHER_TYPE_CREDIT = 0.5
"""What is left of a pair's credit when the types differ."""
SWAPPED_CREDIT = 0.5
"""What is left of a relation's credit when head and tail are swapped."""


@dataclass(frozen=True, slots=True)
class Match:
    """Exact matches of one record, as multisets, and the keys of either side that are left."""

    num_right: int
    missed: list[ItemKey]
    spurious: list[ItemKey]

    @property
    def counts(self) -> Counts:
        """(tp, fp, fn)."""
        return Counts(self.num_right, len(self.spurious), len(self.missed))


def match(gold: Sequence[ItemKey], predicted: Sequence[ItemKey]) -> Match:
    """Pair equal keys, each copy once."""
    left: dict[ItemKey, int] = {}
    for key in gold:
        left[key] = left.get(key, 0) + 1
    spurious = []
    for key in predicted:
        if count := left.get(key):
            left[key] = count - 1
        else:
            spurious.append(key)
    missed = [key for key, count in left.items() for _ in range(count)]
    return Match(len(predicted) - len(spurious), missed, spurious)


def f_beta(counts: Counts, beta: float = 1.0, near_credit: float = 0.0) -> float:
    """(1 + b^2) tp / ((1 + b^2) tp + b^2 fn + fp), in [0, 1]; empty = empty is 1.0.

    A `beta` above 1 weighs recall more, below 1 precision. `near_credit` is added to tp in the
    numerator only: near misses stay errors below.
    """
    weight = beta * beta
    num_weighed = (1 + weight) * counts.tp + weight * counts.fn + counts.fp
    return (1 + weight) * (counts.tp + near_credit) / num_weighed if num_weighed else 1.0


def near_credit(leftover: Match) -> float:
    """Greatest total credit of a one-to-one pairing of missed and spurious keys.

    An entity pair earns the word overlap of its texts. A relation pair earns the mean overlap of
    head with head and tail with tail, so one right end is half a point; or, if that is more,
    SWAPPED_CREDIT times the overlap with head and tail swapped. OTHER_TYPE_CREDIT times that where
    the types differ.
    """
    missed, spurious = leftover.missed, leftover.spurious
    if not missed or not spurious or len(missed) * len(spurious) > MAX_NEAR_PAIRS:
        return 0.0
    wanted = [(key[-1], [_words(text) for text in key[:-1]]) for key in missed]
    pairs: dict[tuple[int, int], float] = {}
    for column, key in enumerate(spurious):
        words = [_words(text) for text in key[:-1]]
        for row, (type_, wanted_words) in enumerate(wanted):
            if overlap := _overlap(wanted_words, words):
                factor = 1.0 if key[-1] == type_ else OTHER_TYPE_CREDIT
                pairs[row, column] = factor * overlap
    return _greatest_total(pairs)


def _greatest_total(pairs: dict[tuple[int, int], float]) -> float:
    """Weight of the heaviest matching of rows and columns."""
    rows = {row for row, _ in pairs}
    columns = {column for _, column in pairs}
    if len(rows) == len(columns) == len(pairs):
        return sum(pairs.values())  # no two pairs compete
    if len(rows) == 1 or len(columns) == 1:
        return max(pairs.values())
    import numpy as np
    from scipy.optimize import linear_sum_assignment  # only where it is needed: slow to import

    credits = np.zeros((max(rows) + 1, max(columns) + 1))
    for pair, credit in pairs.items():
        credits[pair] = credit
    return float(credits[linear_sum_assignment(credits, maximize=True)].sum())


def _overlap(left: list[frozenset[str]], right: list[frozenset[str]]) -> float:
    """Of one text each, or of head and tail each, in [0, 1]."""
    if len(left) == 1:
        return _dice(left[0], right[0])
    straight = _dice(left[0], right[0]) + _dice(left[1], right[1])
    swapped = _dice(left[0], right[1]) + _dice(left[1], right[0])
    return max(straight, SWAPPED_CREDIT * swapped) / 2


def _dice(left: frozenset[str], right: frozenset[str]) -> float:
    """Twice the shared words over all words."""
    if left is right:
        return 1.0
    shared = len(left & right)
    return 2 * shared / (len(left) + len(right)) if shared else 0.0


@lru_cache(maxsize=1024)  # the texts of one record come again in every completion of its group
def _words(text: str) -> frozenset[str]:
    return frozenset(relaxed_form(text).split())
