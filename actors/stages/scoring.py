"""Groups -> reward actors -> summaries and handles of scored groups.

A group goes from its rollout actor to a reward actor by reference, with the records that its
completions are graded against. What reaches the driver is a summary of a few hundred bytes and a
handle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import ray

from actors.cluster.handles import Handle, Ref
from actors.workers.reward import GoldRecords, RewardActor
from t2g_ray.grpo.stages import LoopError, Ready, TrainGroup
from t2g_ray.types import Group, GroupSummary, ScoredGroup


@dataclass(frozen=True, slots=True)
class Ungraded:
    """A group that arrived, and records that include the one of its prompt."""

    group: Ref[Group]
    gold: GoldRecords


@dataclass(frozen=True, slots=True)
class _ScoringCall:
    """Groups that one call scores: the handles of the results, and where they come from."""

    summaries: Ref[list[GroupSummary]]
    handles: Sequence[Ref[ScoredGroup]]
    reward: Handle[RewardActor]
    samplers: str

    def who_failed(self, error: Exception) -> str:
        """The reward actor where it died; a sampler's failure reaches it as its own."""
        if isinstance(error, ray.exceptions.RayActorError):
            is_reward = error.actor_id == self.reward.identity
            return self.reward.name if is_reward else self.samplers
        return f"{self.samplers} or {self.reward.name}"


class Scoring:
    """Calls of reward actors that have not ended."""

    def __init__(self, rewards: Sequence[Handle[RewardActor]]) -> None:
        self._rewards = rewards
        self._next_reward = 0
        self._calls: dict[object, _ScoringCall] = {}
        """Reference of the summaries -> the call."""

    @property
    def references(self) -> list[object]:
        """One for each call, ready as soon as the call has ended."""
        return list(self._calls)

    @property
    def num_groups(self) -> int:
        """Groups that are being scored."""
        return sum(len(call.handles) for call in self._calls.values())

    def begin(self, groups: Sequence[Ungraded]) -> None:
        """Share the groups out among the reward actors, by reference."""
        num_calls = min(len(groups), len(self._rewards))
        for first in range(num_calls):
            self._begin_call(groups[first::num_calls])

    def _begin_call(self, share: Sequence[Ungraded]) -> None:
        reward = self._rewards[self._next_reward % len(self._rewards)]
        self._next_reward += 1
        # Not as an object of the store: a few records cost less by value than one look-up.
        gold = {index: record for item in share for index, record in item.gold.items()}
        groups = [item.group.as_argument() for item in share]
        first, *handles = reward.call_apart(1 + len(share), RewardActor.score, gold, *groups)
        samplers = ", ".join(sorted({item.group.who for item in share}))
        summaries = cast(Ref[list[GroupSummary]], first)
        scored = [cast(Ref[ScoredGroup], handle) for handle in handles]
        call = _ScoringCall(summaries, scored, reward, samplers)
        self._calls[summaries.reference] = call

    def accept(self, done: Sequence[object]) -> list[Ready]:
        """The results of calls that have ended; `done` are some of `references`.

        Raises LoopError that names the actors where one failed.
        """
        calls = [self._calls[reference] for reference in done]
        try:
            results = ray.get([call.summaries.reference for call in calls])
        except ray.exceptions.RayError as error:
            raise LoopError(_explain(calls, error)) from error
        ready: list[Ready] = []
        for call, summaries in zip(calls, results, strict=True):
            del self._calls[call.summaries.reference]
            pairs = zip(summaries, call.handles, strict=True)
            ready += [Ready(summary, handle) for summary, handle in pairs]
        return ready


def _explain(calls: Sequence[_ScoringCall], error: Exception) -> str:
    for call in calls:
        try:
            ray.get(call.summaries.reference)
        except ray.exceptions.RayError as own:
            return (
                f"groups must be generated and scored, found a failure in {call.who_failed(own)}; "
                f"resume=auto goes on from the last checkpoint: {own}"
            )
    return f"groups must be generated and scored, found: {error}"


def scored_of(group: Ready | TrainGroup) -> Ref[ScoredGroup]:
    """The handle of a scored group, which passed through the loop unread."""
    assert isinstance(group.handle, Ref)
    return group.handle
