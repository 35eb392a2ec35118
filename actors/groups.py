"""Rollout and reward actors as one stage of the loop: positions in, scored groups out.

A finished group goes from its rollout actor to a reward actor by reference. What reaches the
driver is a summary of a few hundred bytes and the handle of the scored group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from t2g_ray.config import GrpoConfig
from t2g_ray.engine import Sampling
from t2g_ray.loop import Due, LoopError, Ready, choose
from t2g_ray.progress import announced_wait
from t2g_ray.step_metrics import Stock
from t2g_ray.stopping import RunStopped
from t2g_ray.types import Group, GroupSummary, Prompt

_POLL_S = 1.0


class RayGroups:
    """Implements `t2g_ray.loop.Groups` on Ray actors."""

    def __init__(
        self,
        config: GrpoConfig,
        *,
        rollouts: Sequence[Any],
        rewards: Sequence[Any],
        prompt_at: Callable[[int], Prompt],
    ) -> None:
        self._config = config
        self._rollouts = list(rollouts)
        self._rewards = list(rewards)
        self._prompt_at = prompt_at
        self._sampling = Sampling(
            group_size=config.group_size,
            temperature=config.sampling.temperature,
            max_new_tokens=config.sampling.max_new_tokens,
            ignore_eos=config.sampling.ignore_eos,
        )
        self._streams: dict[Any, int] = {}
        self._scoring: dict[Any, Any] = {}
        self._ready: dict[int, Ready] = {}
        self._owner: dict[int, int] = {}
        self._load = [0] * len(self._rollouts)
        self._num_dispatched = 0
        self._arrived_groups = 0
        self._arrived_tokens = 0

    def start(self, positions: Sequence[int], *, min_version: int) -> None:
        """Deal the prompts to the rollout actors with the fewest tokens outstanding."""
        shares: list[list[Prompt]] = [[] for _ in self._rollouts]
        for position in positions:
            prompt = self._prompt_at(position)
            number = min(range(len(shares)), key=lambda i: (self._load[i], i))
            shares[number].append(prompt)
            self._owner[position] = number
            self._load[number] += self._cost(prompt)
        for number, share in enumerate(shares):
            if share:
                rollout = self._rollouts[number]
                stream = rollout.generate.options(num_returns="streaming").remote(
                    share, self._sampling, min_version
                )
                self._streams[stream] = number

    def _cost(self, prompt: Prompt) -> int:
        # The longest it may become: known beforehand and the same in a resumed run.
        return len(prompt.token_ids) + self._sampling.group_size * self._sampling.max_new_tokens

    def take(
        self, count: int, *, dues: Sequence[Due], should_stop: Callable[[], bool]
    ) -> list[Ready]:
        """Wait until `choose` can tell `count` of the scored groups; hand them over."""
        deadline = time.monotonic() + self._config.deadlines.generate_s
        with announced_wait(self._describe_wait):
            while (chosen := choose(self._ready, count, dues)) is None:
                if should_stop():
                    raise RunStopped("the run was asked to stop while it waited for groups")
                self._collect()
                if time.monotonic() > deadline:
                    raise LoopError(
                        f"groups must arrive within deadlines.generate_s="
                        f"{self._config.deadlines.generate_s:g} s, still waiting: "
                        f"{self._describe_wait()}"
                    )
        return [self._ready.pop(index) for index in chosen]

    def _describe_wait(self) -> str:
        open_by_actor: dict[int, list[int]] = {}
        for position, number in sorted(self._owner.items()):
            open_by_actor.setdefault(number, []).append(position)
        parts = [f"rollout/{n}: prompts {p[:4]} ({len(p)})" for n, p in open_by_actor.items()]
        return f"{len(self._owner)} groups ({'; '.join(parts)}), {len(self._scoring)} in scoring"

    def _collect(self) -> None:
        waiting = [*self._streams, *self._scoring]
        if not waiting:
            raise LoopError("some group must be in flight to be waited for, found none")
        done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0.0, fetch_local=False)
        if not done:
            done, _ = ray.wait(waiting, num_returns=1, timeout=_POLL_S, fetch_local=False)
        for reference in done:
            if reference in self._scoring:
                self._accept(reference)
            else:
                self._forward(reference)

    def _forward(self, stream: Any) -> None:
        """Hand the next finished group of a rollout actor to a reward actor, by reference."""
        try:
            group = next(stream)
        except StopIteration:
            del self._streams[stream]
            return
        reward = self._rewards[self._num_dispatched % len(self._rewards)]
        self._num_dispatched += 1
        summary, scored = reward.score.remote(group)
        self._scoring[summary] = scored

    def _accept(self, reference: Any) -> None:
        handle = self._scoring.pop(reference)
        try:
            summary: GroupSummary = ray.get(reference)
        except ray.exceptions.RayError as error:
            raise LoopError(
                f"a group must be generated and scored, found a failure in an actor: {error}"
            ) from error
        number = self._owner.pop(summary.index)
        self._load[number] -= self._cost(self._prompt_at(summary.index))
        self._arrived_groups += 1
        self._arrived_tokens += summary.generated_tokens
        self._ready[summary.index] = Ready(summary, handle)

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
        and negative so that they never meet a training prompt's."""
        sampling = Sampling(group_size=1, temperature=0.0, max_new_tokens=max_new_tokens)
        num = len(self._rollouts)
        streams = [
            rollout.generate.options(num_returns="streaming").remote(
                list(prompts[number::num]), sampling, min_version
            )
            for number, rollout in enumerate(self._rollouts)
            if prompts[number::num]
        ]
        with announced_wait(lambda: "greedy evaluation"):
            groups: list[Group] = [ray.get(ref) for stream in streams for ref in stream]
        by_index = {group.prompt.index: group for group in groups}
        return [by_index[prompt.index] for prompt in prompts]
