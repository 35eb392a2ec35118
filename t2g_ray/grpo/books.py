"""After every step: groups and tokens that arrived = trained + left untrained + waiting.

Invariant: `Books` stops the run where something was lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from t2g_ray.types import GroupSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """Scored groups and tokens that have arrived, and those that no step has taken yet."""

    arrived_groups: int
    arrived_tokens: int
    waiting_groups: int
    waiting_tokens: int


@dataclass(frozen=True, slots=True)
class Surplus:
    """Groups that a step began and gave up, once it had as many as it trains on."""

    finished: tuple[GroupSummary, ...] = ()
    aborted: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Prompt index -> how many tokens each of its unfinished completions had."""

    def __add__(self, other: Surplus) -> Surplus:
        """Both; a group that was given up twice was begun twice."""
        aborted = {
            index: [*self.aborted.get(index, ()), *other.aborted.get(index, ())]
            for index in {**self.aborted, **other.aborted}
        }
        return Surplus(self.finished + other.finished, aborted)


class Books:
    """Adds up what was trained on and what was left, and compares it with what arrived."""

    def __init__(self) -> None:
        self._groups = [0, 0]
        self._tokens = [0, 0]

    def close_step(
        self, summaries: Sequence[GroupSummary], trained: Collection[int], stock: Stock
    ) -> None:
        """Count one step; raises ConservationError when something was lost or counted twice."""
        for summary in summaries:
            kind = 0 if summary.index in trained else 1
            self._groups[kind] += 1
            self._tokens[kind] += summary.generated_tokens
        books = (
            ("groups", stock.arrived_groups, self._groups, stock.waiting_groups),
            ("tokens", stock.arrived_tokens, self._tokens, stock.waiting_tokens),
        )
        for unit, arrived, (used, left), waiting in books:
            conservation_check(unit, generated=arrived, trained=used, dropped=left, waiting=waiting)


class ConservationError(RuntimeError):
    """Something was lost or counted twice between sampler and learner."""


def conservation_check(
    unit: str, *, generated: int, trained: int, dropped: int, waiting: int
) -> None:
    """Check generated = trained + dropped + waiting, all counted since the same moment.

    `unit` is "groups" or "tokens". `dropped` is all that left without being trained on, groups
    without signal included; `waiting` is what has arrived and is not yet used. Raises
    ConservationError with all numbers when they do not add up.
    """
    excess = generated - (trained + dropped + waiting)
    if excess:
        raise ConservationError(
            f"{unit}: generated must equal trained + dropped + waiting, found "
            f"{generated} != {trained} + {dropped} + {waiting} "
            f"({abs(excess)} {'lost' if excess > 0 else 'counted twice'})"
        )
