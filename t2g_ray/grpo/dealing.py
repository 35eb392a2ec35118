"""Prompts -> the rollout actor that writes each one.

Invariant: a position is open with one rollout actor until it is closed, and which one depends on
lengths that are known beforehand, so that a resumed run deals the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heapreplace

from t2g_ray.config import GrpoConfig
from t2g_ray.types import Prompt


class Dealer:
    """Deals prompts to the actors with the fewest tokens outstanding."""

    def __init__(self, config: GrpoConfig, num_actors: int) -> None:
        self._longest_group = config.group_size * config.sampling.max_new_tokens
        self._loads = [0] * num_actors
        """Actor -> tokens outstanding, also of actors that get no more prompts."""
        self._nums = [0] * num_actors
        """Actor -> groups open, likewise."""
        self._num_used = num_actors
        self._open: dict[int, tuple[int, int]] = {}
        """Position -> actor, tokens."""

    @property
    def num_used(self) -> int:
        """Actors that get prompts."""
        return self._num_used

    def use_first(self, count: int) -> None:
        """From now on only the first `count` actors get prompts."""
        self._num_used = count
        for counts in (self._loads, self._nums):
            counts += [0] * (count - len(counts))

    def deal(self, prompts: Iterable[Prompt]) -> list[list[Prompt]]:
        """One list of prompts for each actor in use, perhaps an empty one."""
        shares: list[list[Prompt]] = [[] for _ in range(self._num_used)]
        # The one that is next stands first; a search for it would cost each prompt all actors.
        queue = [(self._loads[actor], actor) for actor in range(self._num_used)]
        heapify(queue)
        for prompt in prompts:
            actor = queue[0][1]
            shares[actor].append(prompt)
            # The most tokens that the group can have.
            tokens = len(prompt.token_ids) + self._longest_group
            self._open[prompt.index] = actor, tokens
            self._loads[actor] += tokens
            self._nums[actor] += 1
            heapreplace(queue, (self._loads[actor], actor))
        return shares

    def close(self, position: int) -> None:
        """Note that the group arrived, or was given up."""
        actor, tokens = self._open.pop(position)
        self._loads[actor] -= tokens
        self._nums[actor] -= 1

    def num_open(self, actor: int) -> int:
        """Groups that this actor still has to finish; none of one that got no prompt yet."""
        return self._nums[actor] if actor < len(self._nums) else 0

    def open_by_actor(self, among: Sequence[int] | None = None) -> dict[int, list[int]]:
        """Actor -> its open positions, ascending; only those in `among` where that is given."""
        positions = sorted(self._open if among is None else set(among) & self._open.keys())
        by_actor: dict[int, list[int]] = {}
        for position in positions:
            by_actor.setdefault(self._open[position][0], []).append(position)
        return by_actor
