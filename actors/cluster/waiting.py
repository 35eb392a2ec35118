"""Calls to actors -> their results, or an error that names the phase and those waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError

from actors.cluster.handles import Ref
from t2g_ray.config import Deadline
from t2g_ray.grpo.stages import LoopError
from t2g_ray.run.progress import announced_wait

Result = TypeVar("Result")
AnyRef = Ref[Any]

_GRACE_S = 3.0
"""Until all of a failed collective call have ended."""
_MOST_LISTED = 16
"""Actors that are named where all of them are meant."""

Meanwhile = Callable[[Sequence[AnyRef], float], None]
"""What to do until these calls are over (`is_over`), for at most this many seconds."""


def results_of(
    calls: Sequence[Ref[Result]],
    phase: str,
    deadline: Deadline,
    meanwhile: Meanwhile | None = None,
) -> list[Result]:
    """The results of `calls`, in their order.

    Raises LoopError when an actor fails, or when one has not answered within `deadline`; and
    whatever `meanwhile` raises.
    """
    end = time.monotonic() + deadline.seconds
    try:
        with announced_wait(lambda: f"{phase}: {open_of(calls)}"):
            if meanwhile is not None:
                meanwhile(calls, deadline.seconds)
            timeout_s = max(0.0, end - time.monotonic())
            return list(ray.get([call.reference for call in calls], timeout=timeout_s))
    except ray.exceptions.GetTimeoutError as error:
        raise LoopError(
            f"the {phase} must end within {deadline}, still waiting for {open_of(calls)}"
        ) from error
    except ray.exceptions.RayError as error:
        raise LoopError(f"the {phase} must succeed, found a failure in {_failed(calls)}") from error


def result_of(call: Ref[Result], phase: str, deadline: Deadline) -> Result:
    """`results_of` one call."""
    return results_of([call], phase, deadline)[0]


def ready(
    references: Sequence[object], count: int, timeout_s: float, *, fetch: bool = False
) -> list[object]:
    """The ready ones of these references to calls or streams; waits for at least `count`.

    `fetch`: ready means that the object is on this node.
    """
    waited: Any = list(references)  # streams have no type in common with other references
    done: list[object]
    done, _ = ray.wait(waited, num_returns=count, timeout=timeout_s, fetch_local=fetch)
    return done


def ended(calls: Sequence[Ref[Result]], timeout_s: float) -> list[Ref[Result]]:
    """The calls that ended within `timeout_s`, with a result or an error."""
    references = [call.reference for call in calls]
    done = set(ready(references, len(references), timeout_s, fetch=True)) if calls else set()
    return [call for call in calls if call.reference in done]


def is_over(calls: Sequence[AnyRef], timeout_s: float) -> bool:
    """Whether within `timeout_s` all calls have ended, or one has failed: the others of a
    collective call may then wait for ever."""
    done = ended(calls, timeout_s)
    return len(done) == len(calls) or any(_error_of(call) is not None for call in done)


def open_of(calls: Sequence[AnyRef]) -> str:
    """The actors whose calls have not ended."""
    done = set(ended(calls, 0))
    return listed([call.who for call in calls if call not in done])


def listed(words: Sequence[str], separator: str = ", ") -> str:
    """The words; of many the first ones, and how many more there are."""
    more = len(words) - _MOST_LISTED
    told = separator.join(words[:_MOST_LISTED])
    return told if more <= 0 else f"{told}{separator}and {more} more"


def _failed(calls: Sequence[AnyRef]) -> str:
    """The actors that died, else the first that failed, and why; then those without an answer.

    A rank that loses a peer may end itself before Ray knows that the peer's node is gone: the peer
    is then among those without an answer.
    """
    # Those that lost a peer may say so before Ray knows that the peer is dead.
    over = dict.fromkeys(ended(calls, _GRACE_S))
    found = {call.who: _error_of(call) for call in over}
    errors = {actor: error for actor, error in found.items() if error is not None}
    dead = [actor for actor, error in errors.items() if isinstance(error, RayActorError)]
    told = [f"{actor}: {errors[actor]}" for actor in dead or list(errors)[:1]]
    silent = [call.who for call in calls if call not in over]
    return "; ".join([*told, *([f"no answer from {listed(silent)}"] if silent else [])])


def _error_of(call: AnyRef) -> ray.exceptions.RayError | None:
    try:
        ray.get(call.reference, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return None
    except ray.exceptions.RayError as error:
        return error
    return None
