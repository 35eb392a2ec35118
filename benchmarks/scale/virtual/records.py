"""What the stages of a simulated run note, and what they tell the loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.scale.virtual.engine import Job
from t2g_ray.graph.counts import Counts, GraphCounts
from t2g_ray.grpo.stages import LoopError
from t2g_ray.types import GroupSummary, TrainReport

PROMPT = (0,) * 500
"""Tokens of every prompt."""
_FOUND = GraphCounts(Counts(1, 0, 0), Counts())


class ActorDied(LoopError):
    """A rollout actor is gone, which ends a run."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What a step was, by the virtual clock."""

    ended_s: float
    train_s: float
    tokens: int
    mean_age: float
    actors: int


@dataclass(slots=True)
class Progress:
    """The clock and what stays when a run ends and is resumed."""

    now_s: float = 0.0
    busy_s: float = 0.0
    """Seconds of all engines in which they wrote, of runs that have ended."""
    steps: dict[int, StepTimes] = field(default_factory=dict)
    ledger: dict[str, object] = field(default_factory=dict)
    saved: int = 0
    """The step that `ledger` is of."""
    inside_s: float = 0.0
    """Real seconds of this machine that went into the simulation of stages."""


def summary_of(job: Job) -> GroupSummary:
    """A group that was written, with rewards that differ."""
    size = len(job.lengths)
    rewards = tuple(float(number % 2) for number in range(size))
    return GroupSummary(
        index=job.index,
        rewards=rewards,
        base=rewards,
        counts=(_FOUND,) * size,
        near=((0.0, 0.0),) * size,
        has_graph=(True,) * size,
        is_valid=(True,) * size,
        lengths=job.lengths,
        prompt_tokens=len(PROMPT),
        is_truncated=(False,) * size,
        min_version=min(job.versions),
        max_version=max(job.versions),
        tokens_by_version=job.versions,
        parts={},
        sampler=0,
        generate_s=0.0,
        score_s=0.0,
    )


def report_of(num_tokens: int, seconds: float) -> TrainReport:
    """A step at which both sides agree to the bit."""
    return TrainReport(
        loss=0.0,
        grad_norm=1.0,
        lr=0.0,
        entropy=0.0,
        kl=0.0,
        clip_fraction=0.0,
        logprob_difference=0.0,
        current_difference=0.0,
        num_current=num_tokens,
        mismatch_kl=0.0,
        max_ratio=1.0,
        truncated_share=0.0,
        num_tokens=num_tokens,
        seconds=seconds,
    )
