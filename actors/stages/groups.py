"""Rollout and reward actors as one stage of the loop: positions in, scored groups out.

A finished group goes from its rollout actor to a reward actor by reference. What reaches the
driver is a summary of a few hundred bytes and the handle of the scored group.

Invariant: a position is open with one rollout actor until its summary arrived or it was ended,
and every wait has a deadline.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from actors.cluster.waiting import results_of
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.books import Stock, Surplus
from t2g_ray.grpo.stages import LoopError, Ready
from t2g_ray.grpo.staleness import Due, choose
from t2g_ray.rollout.spec import Sampling
from t2g_ray.run.progress import announced_wait
from t2g_ray.run.stopping import RunStopped
from t2g_ray.types import Group, GroupSummary, Prompt

_POLL_S = 1.0
_GATHER_S = 0.02
"""What arrives within so long is taken on together, and scored by one call: a call costs driver
and reward actor more than a group in it does."""


@dataclass(slots=True)
class _Stream:
    """The groups of one call that are still to come."""

    number: int
    """Of the rollout actor."""
    num_left: int


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Groups that one call scores: the handles of the results, and where they come from."""

    handles: Sequence[Any]
    actors: str


class RayGroups:
    """Implements `t2g_ray.grpo.stages.Groups` on Ray actors."""

    def __init__(
        self,
        config: GrpoConfig,
        *,
        rollouts: Sequence[Any],
        rewards: Sequence[Any],
        prompt_at: Callable[[int], Prompt],
    ) -> None:
        self._config = config
        self._rollouts = rollouts
        """The cluster's own list: more actors may join it, see `use_first`."""
        self._rewards = list(rewards)
        self._prompt_at = prompt_at
        self._sampling = Sampling(
            group_size=config.group_size,
            temperature=config.sampling.temperature,
            max_new_tokens=config.sampling.max_new_tokens,
            ignore_eos=config.sampling.ignore_eos,
        )
        self._streams: dict[Any, _Stream] = {}
        self._scoring: dict[Any, _Scoring] = {}
        """Reference of the summaries of a call -> the call."""
        self._ready: dict[int, Ready] = {}
        self._owner: dict[int, int] = {}
        self._load = [0] * len(rollouts)
        self._num_used, self._next_reward = len(rollouts), 0
        self._arrived_groups = self._arrived_tokens = 0

    def start(self, positions: Sequence[int], *, min_version: int) -> None:
        """Deal the prompts to the rollout actors with the fewest tokens outstanding."""
        shares: list[list[Prompt]] = [[] for _ in self._load[: self._num_used]]
        for position in positions:
            prompt = self._prompt_at(position)
            number = min(range(len(shares)), key=lambda i: (self._load[i], i))
            shares[number].append(prompt)
            self._owner[position] = number
            self._load[number] += self._cost(prompt)
        for number, share in enumerate(shares):
            if share:
                stream = self._stream(number, share, self._sampling, min_version)
                self._streams[stream] = _Stream(number, len(share))

    def use_first(self, count: int) -> None:
        """From now on only the first `count` rollout actors get prompts."""
        self._num_used = count
        self._load += [0] * (count - len(self._load))

    def num_open(self, number: int) -> int:
        """Groups that this rollout actor has still to finish."""
        return sum(owner == number for owner in self._owner.values())

    def _stream(
        self, number: int, prompts: Sequence[Prompt], sampling: Sampling, min_version: int
    ) -> Any:
        call = self._rollouts[number].generate.options(num_returns="streaming")
        return call.remote(prompts, sampling, min_version)

    def _cost(self, prompt: Prompt) -> int:
        # The longest it may become: known beforehand and the same in a resumed run.
        return len(prompt.token_ids) + self._sampling.group_size * self._sampling.max_new_tokens

    def take(
        self, count: int, *, dues: Sequence[Due], should_stop: Callable[[], bool]
    ) -> list[Ready]:
        """Wait until `choose` can tell `count` of the scored groups; hand them over."""

        def is_enough() -> bool:
            if should_stop():
                raise RunStopped("the run was asked to stop while it waited for groups")
            return choose(self._ready, count, dues) is not None

        self._wait_until(is_enough)
        return [self._ready.pop(index) for index in choose(self._ready, count, dues) or ()]

    def _wait_until(self, is_enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._config.deadlines.generate_s
        with announced_wait(self._describe_wait):
            while not is_enough():
                self._collect()
                if time.monotonic() > deadline:
                    raise self._too_late("groups", self._describe_wait())

    def _too_late(self, what: str, waiting: str) -> LoopError:
        return LoopError(
            f"{what} must arrive within deadlines.generate_s="
            f"{self._config.deadlines.generate_s:g} s, still waiting: {waiting}"
        )

    def _describe_wait(self) -> str:
        open_by_actor: dict[int, list[int]] = {}
        for position, number in sorted(self._owner.items()):
            open_by_actor.setdefault(number, []).append(position)
        parts = [f"rollout/{n}: prompts {p[:4]} ({len(p)})" for n, p in open_by_actor.items()]
        num_scoring = sum(len(call.handles) for call in self._scoring.values())
        return f"{len(self._owner)} groups ({'; '.join(parts)}), {num_scoring} in scoring"

    def _collect(self) -> None:
        """Wait for something to arrive, and take on all that did."""
        waiting = [*self._streams, *self._scoring]
        if not waiting:
            raise LoopError("some group must be in flight to be waited for, found none")
        if ray.wait(waiting, num_returns=1, timeout=_POLL_S, fetch_local=False)[0]:
            self._take_on(waiting, _GATHER_S)

    def attend(self, calls: Sequence[Any], timeout_s: float) -> None:
        """Until these calls of others ended, take on what arrives: it is scored meanwhile."""
        deadline = time.monotonic() + timeout_s
        while calls and time.monotonic() < deadline:
            _, calls = ray.wait(list(calls), num_returns=len(calls), timeout=_GATHER_S)
            if waiting := [*self._streams, *self._scoring]:
                self._take_on(waiting, 0)

    def _take_on(self, waiting: list[Any], timeout_s: float) -> None:
        done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=timeout_s, fetch_local=False)
        self._accept([reference for reference in done if reference in self._scoring])
        streams = [reference for reference in done if reference in self._streams]
        self._score([group for stream in streams for group in self._finished(stream)])

    def _finished(self, stream: Any) -> Iterator[tuple[Any, int]]:
        """The groups of a call that are there by now, each with the number of its actor."""
        state = self._streams[stream]
        while state.num_left:
            group = next(stream, None)
            if group is None:
                break
            yield group, state.number
            state.num_left -= 1
            if state.num_left and not stream.next_ready():
                return
        # The call's end needs no wait of its own.
        del self._streams[stream]

    def _score(self, groups: Sequence[tuple[Any, int]]) -> None:
        """Share the groups out among the reward actors, by reference."""
        num_calls = min(len(groups), len(self._rewards))
        for first in range(num_calls):
            share = groups[first::num_calls]
            reward = self._next_reward % len(self._rewards)
            self._next_reward += 1
            call = self._rewards[reward].score.options(num_returns=1 + len(share))
            summaries, *handles = call.remote(*(group for group, _ in share))
            numbers = ", ".join(f"rollout/{number}" for number in sorted({n for _, n in share}))
            self._scoring[summaries] = _Scoring(handles, f"{numbers} or reward/{reward}")

    def _accept(self, references: Sequence[Any]) -> None:
        try:
            results: list[list[GroupSummary]] = ray.get(list(references))
        except ray.exceptions.RayError as error:
            raise LoopError(self._explain(references, error)) from error
        for reference, summaries in zip(references, results, strict=True):
            handles = self._scoring.pop(reference).handles
            for summary, handle in zip(summaries, handles, strict=True):
                self._leave(summary.index)
                self._arrived_groups += 1
                self._arrived_tokens += summary.generated_tokens
                self._ready[summary.index] = Ready(summary, handle)

    def _leave(self, position: int) -> None:
        number = self._owner.pop(position)
        self._load[number] -= self._cost(self._prompt_at(position))

    def _explain(self, references: Sequence[Any], error: Exception) -> str:
        for reference in references:
            try:
                ray.get(reference)
            except ray.exceptions.RayError as own:
                actors = self._scoring[reference].actors
                return (
                    f"groups must be generated and scored, found a failure in {actors} with "
                    f"{self._describe_wait()} open; resume=auto goes on from the last checkpoint: "
                    f"{own}"
                )
        return f"groups must be generated and scored, found: {error}"

    def end(self, positions: Sequence[int]) -> Surplus:
        """Give up these groups, finished or not; returns once none of them is left."""
        open_by_actor: dict[int, list[int]] = {}
        for position in positions:
            if position in self._owner:
                open_by_actor.setdefault(self._owner[position], []).append(position)
        calls = {
            f"rollout/{number}": self._rollouts[number].abort.remote(share)
            for number, share in open_by_actor.items()
        }
        aborted: dict[int, list[int]] = {}
        for part in results_of(calls, "abort of groups", self._config.deadlines, "generate_s"):
            aborted |= part
        for position in aborted:
            self._leave(position)
        # The others were finished before the message came: they are on their way here.
        finished = [position for position in positions if position not in aborted]
        self._wait_until(lambda: all(position in self._ready for position in finished))
        return Surplus(tuple(self._ready.pop(p).summary for p in finished), aborted)

    def stock(self) -> Stock:
        """What arrived since the start, and what of it was not taken yet."""
        waiting = [ready.summary for ready in self._ready.values()]
        return Stock(
            arrived_groups=self._arrived_groups,
            arrived_tokens=self._arrived_tokens,
            waiting_groups=len(waiting),
            waiting_tokens=sum(summary.generated_tokens for summary in waiting),
        )

    def greedy(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, min_version: int
    ) -> list[Group]:
        """One greedy completion for each prompt, in order of `prompts`; indices must be unique
        and negative so that they never meet a training prompt's.

        Raises LoopError when an actor fails or no answer comes for deadlines.generate_s.
        """
        sampling = Sampling(group_size=1, temperature=0.0, max_new_tokens=max_new_tokens)
        num = min(self._num_used, len(prompts))
        shares = {number: prompts[number::num] for number in range(num)}
        streams = {self._stream(n, share, sampling, min_version): n for n, share in shares.items()}
        left = Counter({number: len(share) for number, share in shares.items()})
        by_index: dict[int, Group] = {}

        def describe() -> str:
            parts = [f"rollout/{number}: {count} prompts" for number, count in (+left).items()]
            return f"greedy answers under version {min_version} ({', '.join(parts)})"

        with announced_wait(describe):
            while left.total():
                timeout_s = self._config.deadlines.generate_s
                done: list[Any] = ray.wait(list(streams), num_returns=1, timeout=timeout_s)[0]
                if not done:
                    raise self._too_late("greedy answers", describe())
                for stream in done:
                    group = self._fetch(next(stream), streams[stream])
                    by_index[group.prompt.index] = group
                    left[streams[stream]] -= 1
                    if left[streams[stream]] == 0:
                        del streams[stream]
        return [by_index[prompt.index] for prompt in prompts]

    def _fetch(self, reference: Any, number: int) -> Group:
        try:
            group: Group = ray.get(reference, timeout=self._config.deadlines.generate_s)
        except ray.exceptions.RayError as error:
            raise LoopError(
                f"a greedy answer must be written, found a failure in rollout/{number}: {error}"
            ) from error
        return group
