"""Seconds of the samplers' side by number of actors -> the number that balances the learner."""

from __future__ import annotations

from collections.abc import Callable

from t2g_ray.config import GrpoConfig


def balance(
    config: GrpoConfig, rollout_s: Callable[[int], float], learner_s: float
) -> tuple[int | None, tuple[str, ...]]:
    """The fewest rollout actors whose side takes at most `learner_s`, and where there are none, or
    they could not be told, one sentence why. `rollout_s` must not grow with their number.
    """
    if config.colocate != "off" and config.learner.gpus:
        return None, ("engines are on the learner's devices, so their number follows from it",)
    # A group is written by one engine.
    most = config.prompts_begun * (config.max_staleness + 1)
    count = fewest(lambda number: rollout_s(number) <= learner_s, most)
    if count is not None:
        return count, ()
    return None, (
        f"no number of rollout actors is as fast as the learner: with one for each group, {most}, "
        f"the longest answers still take {rollout_s(most):.3g} s where a step of the learner takes "
        f"{learner_s:.3g} s; raise max_staleness or prompts_per_step",
    )


def fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 1 to `most` for which it holds, where it goes on holding above."""
    if not holds(most):
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
