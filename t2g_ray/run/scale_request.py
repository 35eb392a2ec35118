"""`t2g scale`: a request in the run folder -> a run that reads it between two steps and answers.

Invariant: one file has one writer. The command writes the request, the run writes how many
rollout actors work; both are replaced whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2g_ray.run.folder import RunDir, write_json
from t2g_ray.run.progress import announced_wait

_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between `least` and `most` rollout actors, `cool_down_s` seconds or more between changes.

    Raises ValueError where no number lies between them.
    """

    least: int
    most: int
    cool_down_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(
                "--min must be at least 1 and --max at least --min, "
                f"found --min {self.least} --max {self.most}"
            )
        if self.cool_down_s < 0:
            raise ValueError(f"--cool-down-s must be at least 0, found {self.cool_down_s:g}")

    def to_json(self) -> dict[str, float]:
        """As in a request and in an answer."""
        return {"min": self.least, "max": self.most, "cool_down_s": self.cool_down_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a run says of its rollout actors."""

    rollouts: int
    """How many work for it."""
    failure: str = ""
    """Why the last try to start more failed; empty where nothing failed."""
    change: str = ""
    """The last change and its reason; empty where the run has what it started with."""
    auto: Bounds | None = None
    """Where the run follows its own figures: within which bounds."""
    fixed: str = ""
    """Why the number cannot change; empty where it can."""


def read_request(path: Path) -> int | Bounds | None:
    """A number of rollout actors, or bounds to keep within; None where nothing was asked."""
    content = _read(path)
    if content is None:
        return None
    return _bounds(content["auto"]) if "auto" in content else int(content["rollouts"])


def write_request(path: Path, request: int | Bounds) -> None:
    """Replace what is asked of a run."""
    if isinstance(request, int):
        write_json(path, {"rollouts": request})
    else:
        write_json(path, {"auto": request.to_json()})


def read_answer(path: Path) -> Answer | None:
    """What the run said last; None where it has not said anything."""
    content = _read(path)
    if content is None:
        return None
    auto = content.pop("auto", None)
    return Answer(**content, auto=None if auto is None else _bounds(auto))


def write_answer(path: Path, answer: Answer) -> None:
    """Replace what the run says, without what is empty."""
    told = {name: getattr(answer, name) for name in ("failure", "change", "fixed")}
    auto = {} if answer.auto is None else {"auto": answer.auto.to_json()}
    kept = {name: value for name, value in told.items() if value}
    write_json(path, {"rollouts": answer.rollouts, **kept, **auto})


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _bounds(content: dict[str, float]) -> Bounds:
    return Bounds(int(content["min"]), int(content["max"]), content["cool_down_s"])


def request_rollouts(run: RunDir, num_rollouts: int, *, timeout_s: float) -> None:
    """Ask a live run for this many rollout actors and wait until it has them.

    Raises ValueError for a folder that holds no live run and for a run whose number is fixed,
    TimeoutError when the run did not answer in time; the request then stays, and the run follows it
    when it can.
    """
    if num_rollouts < 1:
        raise ValueError(f"--rollouts must be at least 1, found {num_rollouts}")
    _check_live(run)
    write_request(run.scale_request, num_rollouts)
    what = f"have {num_rollouts} rollout actors"
    _wait(run, what, lambda answer: answer.rollouts == num_rollouts, timeout_s)


def request_auto(run: RunDir, bounds: Bounds, *, timeout_s: float) -> None:
    """Ask a live run to choose its number within the bounds; wait until it says that it does.

    Raises as `request_rollouts` does.
    """
    _check_live(run)
    write_request(run.scale_request, bounds)
    what = f"choose its rollout actors between {bounds.least} and {bounds.most}"
    _wait(run, what, lambda answer: answer.auto == bounds, timeout_s)


def request_off(run: RunDir, *, timeout_s: float) -> int:
    """Ask a live run to keep the number that it has; returns that. Raises as the others do."""
    _check_live(run)
    answer = read_answer(run.rollouts_json)
    if answer is None:
        run.scale_request.unlink(missing_ok=True)
        raise ValueError(
            f"RUN must have rollout actors, found none yet in {run.path}; what was asked before is "
            "withdrawn"
        )
    write_request(run.scale_request, answer.rollouts)
    number = answer.rollouts
    what = f"stay at {number} rollout actors"
    _wait(run, what, lambda now: now.auto is None and now.rollouts == number, timeout_s)
    return number


def _check_live(run: RunDir) -> None:
    if not run.config.is_file():
        raise ValueError(f"RUN must be the folder of a run, found no config.yaml in {run.path}")
    if run.report_json.is_file():
        raise ValueError(f"RUN must be a live run, found a finished one in {run.path}")
    answer = read_answer(run.rollouts_json)
    if answer is not None and answer.fixed:
        raise ValueError(
            f"a run must be able to change its number of rollout actors, found {answer.fixed}"
        )


def _wait(run: RunDir, what: str, is_done: Callable[[Answer], bool], timeout_s: float) -> None:
    end_s = time.monotonic() + timeout_s
    with announced_wait(lambda: f"the run in {run.path} to {what}"):
        while (answer := read_answer(run.rollouts_json)) is None or not is_done(answer):
            if time.monotonic() > end_s:
                found = "no answer" if answer is None else str(answer.rollouts)
                reason = "is it running, and has the cluster room for them?"
                if answer is not None and answer.failure:
                    reason = f"the last try failed, and the run tries again: {answer.failure}."
                raise TimeoutError(
                    f"the run must {what} within {timeout_s:g} s, found {found}; {reason} "
                    "The request stays"
                )
            time.sleep(_LOOK_EVERY_S)
