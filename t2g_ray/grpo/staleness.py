"""Which groups may be trained now, and which must be.

Invariant: once a step is over, the groups that must be trained within `lag` more steps fit into
`lag` steps, so no group is ever too old when its turn comes (earliest deadline first).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from t2g_ray.types import GroupSummary


@dataclass(frozen=True, slots=True)
class Due:
    """At least `least` of these positions must be trained in the present step."""

    positions: frozenset[int]
    least: int


def dues_of(
    admitted: Mapping[int, int], *, version: int, max_staleness: int, groups_per_step: int
) -> list[Due]:
    """Dues of the step that starts from `version`; `admitted`: position -> version at admission.

    A step trains `groups_per_step` groups; none may be older than `max_staleness` versions.
    """
    dues: list[Due] = []
    for lag in range(max_staleness + 1):
        newest = version + lag - max_staleness
        positions = frozenset(p for p, v in admitted.items() if v <= newest)
        dues.append(Due(positions, len(positions) - lag * groups_per_step))
    return dues


def choose(finished: Collection[int], count: int, dues: Sequence[Due]) -> list[int] | None:
    """The `count` finished positions to train, oldest first; None while one that is due is missing.

    `dues` are sorted, the most urgent first, and each contains the positions of those before it.
    """
    # The most urgent are chosen first, so this decides; a run that waits asks time and again.
    if len(finished) < count or any(
        min(count, len(due.positions.intersection(finished))) < due.least for due in dues
    ):
        return None

    def urgency(position: int) -> tuple[int, int]:
        urgent = (i for i, due in enumerate(dues) if position in due.positions)
        return next(urgent, len(dues)), position

    return sorted(finished, key=urgency)[:count]


@dataclass(frozen=True, slots=True)
class TokenAges:
    """Versions between the weights that wrote a token and those that a step starts from."""

    mean: float
    """Over tokens."""
    oldest: int


def token_ages(summaries: Sequence[GroupSummary], version: int) -> TokenAges:
    """Ages under `version` of the graded tokens; 0 where nothing was graded."""
    counts: Counter[int] = Counter()
    for summary in summaries:
        counts.update(summary.tokens_by_version)
    ages = {version - written: count for written, count in counts.items()}
    mean = sum(age * count for age, count in ages.items()) / max(1, counts.total())
    return TokenAges(mean, max(ages, default=0))
