"""Prompts -> the rollout actor that writes each one.

Invariant: a position is open with one rollout actor until it is closed, and which one depends on
lengths that are known beforehand, so that a resumed run deals the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heapify, heapreplace

from t2g_ray.config import GrpoConfig
from t2g_ray.types import Prompt


class Dealer:
    """Deals prompts to the actors with the fewest tokens outstanding."""

    def __init__(self, config: GrpoConfig, num_actors: int) -> None:
        self._longest_group = config.group_size * config.sampling.max_new_tokens
        self._num_used = num_actors
        self._open: dict[int, tuple[int, int]] = {}
        """Position -> actor, tokens; also of actors that get no more prompts."""

    @property
    def num_used(self) -> int:
        """Actors that get prompts."""
        return self._num_used

    def use_first(self, count: int) -> None:
        """From now on only the first `count` actors get prompts."""
        self._num_used = count

    def deal(self, prompts: Iterable[Prompt]) -> list[list[Prompt]]:
        """One list of prompts for each actor in use, perhaps an empty one."""
        shares: list[list[Prompt]] = [[] for _ in range(self._num_used)]
        loads = Counter[int]()
        for actor, tokens in self._open.values():
            loads[actor] += tokens
        # The one that is next stands first; a search for it would cost each prompt all actors.
        queue = [(loads[actor], actor) for actor in range(self._num_used)]
        heapify(queue)
        for prompt in prompts:
            load, actor = queue[0]
            shares[actor].append(prompt)
            # The most tokens that the group can have.
            tokens = len(prompt.token_ids) + self._longest_group
            self._open[prompt.index] = actor, tokens
            heapreplace(queue, (load + tokens, actor))
        return shares

    def close(self, position: int) -> None:
        """Note that the group arrived, or was given up."""
        del self._open[position]

    def num_open(self, actor: int) -> int:
        """Groups that this actor still has to finish."""
        return sum(owner == actor for owner, _ in self._open.values())

    def open_by_actor(self, among: Sequence[int] | None = None) -> dict[int, list[int]]:
        """Actor -> its open positions, ascending; only those in `among` where that is given."""
        positions = sorted(self._open if among is None else set(among) & self._open.keys())
        by_actor: dict[int, list[int]] = {}
        for position in positions:
            by_actor.setdefault(self._open[position][0], []).append(position)
        return by_actor
