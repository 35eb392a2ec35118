"""Times of a step -> what one rollout actor more or less would do to tokens a second.

Ideally n actors that become n + 1 give 1 / n more tokens a second. What is told here is the share
of that which one actor gives. Generating is taken to shrink with the actors that share it; a step
gets shorter by no more than the learner waited, and longer only by what does not fit into the
samplers' pauses. Where both sides pause in turn, which chance makes them do, the difference counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, sqrt
from statistics import median

PAYS_FROM = 0.5
"""An actor pays from this share of its ideal gain on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of one step of a run with `num_rollouts` rollout actors."""

    num_rollouts: int
    step_s: float
    wait_s: float
    """What one more actor can save: the learner's wait for groups, at least 0."""
    busy_s: float
    """Samplers generated, mean over them."""
    held_s: float
    """What fewer actors can fill: the pauses of samplers that are held back, at least 0."""


def usual_times(lines: Sequence[Mapping[str, float]], *, is_overlapped: bool) -> StepTimes:
    """The usual step among these lines of metrics, all with as many actors; at least one line.

    Medians; of the two pauses the least that these steps show (`_at_least`).

    `is_overlapped`: samplers write while the learner trains. Else each side pauses while the other
    works, so all of the learner's wait can be saved and no pause of a sampler can be filled.
    """
    steps_s = [line["time/step_s"] for line in lines]
    busy_s = [line["time/step_s"] * (1 - line["idle/samplers"]) for line in lines]
    waits_s = [line["time/rollout_wait_s"] for line in lines]
    if is_overlapped:
        pauses_s = [line["time/backpressure_s"] for line in lines]
        waits_s = [wait_s - held_s for wait_s, held_s in zip(waits_s, pauses_s, strict=True)]
    return StepTimes(
        num_rollouts=round(lines[-1]["rollout/actors"]),
        step_s=median(steps_s),
        wait_s=max(0.0, _at_least(waits_s)),
        busy_s=median(busy_s),
        held_s=max(0.0, _at_least([-wait_s for wait_s in waits_s])) if is_overlapped else 0.0,
    )


def _at_least(values: Sequence[float]) -> float:
    """The lower end of a 95 % interval of the median: the value whose rank is two standard
    deviations below the middle one's. Of few values it is the smallest."""
    count = len(values)
    return sorted(values)[max(0, floor(count / 2 - sqrt(count)))]


def share_of_next(times: StepTimes) -> float:
    """Share of its ideal gain that one more actor would give, at least 0."""
    n = times.num_rollouts
    shorter_s = min(times.wait_s, times.busy_s / (n + 1))
    return n * shorter_s / (times.step_s - shorter_s)


def share_of_last(times: StepTimes) -> float:
    """Share of its ideal gain that the last of at least two actors gives, at least 0."""
    others = times.num_rollouts - 1
    longer_s = max(0.0, times.busy_s / others - times.held_s)
    return others * longer_s / times.step_s
