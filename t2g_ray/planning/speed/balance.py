"""Seconds of the samplers' side by number of actors -> the number that balances the learner."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from t2g_ray.config import GrpoConfig


def balance(
    config: GrpoConfig, rollout_s: Callable[[int], float], learner_s: float
) -> tuple[int | None, tuple[str, ...]]:
    """The fewest rollout actors whose side takes at most `learner_s`, and where there are none, or
    they could not be told, one sentence why. `rollout_s` may grow with their number: actors on CPUs
    share the cores.
    """
    if config.colocate != "off" and config.learner.gpus:
        return None, ("engines are on the learner's devices, so their number follows from it",)
    # A group is written by one engine.
    most = config.prompts_begun * (config.max_staleness + 1)
    seconds = cache(rollout_s)
    count = fewest(lambda number: seconds(number) <= learner_s, most)
    if count is not None:
        return count, ()
    quickest = min(range(most, 0, -1), key=seconds)
    told = f"one for each group, {most}"
    if quickest < most:
        told = f"{quickest}, beyond which they wait for cores"
    return None, (
        f"no number of rollout actors is as fast as the learner: with {told}, "
        f"the longest answers still take {seconds(quickest):.3g} s where a step of the learner "
        f"takes {learner_s:.3g} s; raise max_staleness or prompts_per_step",
    )


def fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 1 to `most` for which it holds, whether or not it goes on to."""
    return next(filter(holds, range(1, most + 1)), None)
