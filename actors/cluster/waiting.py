"""Calls to actors -> their results, or an error that names the phase and those waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from t2g_ray.config import DeadlineConfig
from t2g_ray.grpo.stages import LoopError
from t2g_ray.run.progress import announced_wait

Meanwhile = Callable[[Sequence[Any], float], None]
"""What to do until all of these references are there, for at most so many seconds."""


def results_of(
    calls: Mapping[str, Any],
    phase: str,
    deadlines: DeadlineConfig,
    deadline: str,
    meanwhile: Meanwhile | None = None,
) -> list[Any]:
    """The results of `calls`, {actor: reference}, in their order.

    Raises LoopError when an actor fails, or when one has not answered after the seconds of
    `deadline`, a field of `deadlines`; and whatever `meanwhile` raises.
    """
    seconds = getattr(deadlines, deadline)
    references = list(calls.values())
    end = time.monotonic() + seconds
    try:
        with announced_wait(lambda: f"{phase}: {_open(calls)}"):
            if meanwhile is not None:
                meanwhile(references, seconds)
            results: list[Any] = ray.get(references, timeout=max(0.0, end - time.monotonic()))
    except ray.exceptions.GetTimeoutError as error:
        raise LoopError(
            f"the {phase} must end within deadlines.{deadline}={seconds:g} s, still waiting for "
            f"{_open(calls)}"
        ) from error
    except ray.exceptions.RayError as error:
        raise LoopError(f"the {phase} must succeed, found a failure in {_failed(calls)}") from error
    return results


def _open(calls: Mapping[str, Any]) -> str:
    return ", ".join(a for a, call in calls.items() if not ray.wait([call], timeout=0)[0])


def _failed(calls: Mapping[str, Any]) -> str:
    """The first actor that failed, and why."""
    for actor, call in calls.items():
        try:
            ray.get(call, timeout=0)
        except ray.exceptions.GetTimeoutError:
            continue
        except ray.exceptions.RayError as error:
            return f"{actor}: {error}"
    return ", ".join(calls)
