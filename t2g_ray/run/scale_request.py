"""`t2g scale`: a request in the run folder -> a run that reads it between two steps and answers.

Invariant: one file has one writer. The command writes the request, the run writes how many
rollout actors work; both are replaced whole.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from t2g_ray.run.folder import RunDir, write_json
from t2g_ray.run.progress import announced_wait

_LOOK_EVERY_S = 0.2


def read_number(path: Path) -> int | None:
    """The number of rollout actors in a request or an answer; None where there is no file."""
    if not path.is_file():
        return None
    return int(json.loads(path.read_text(encoding="utf-8"))["rollouts"])


def read_failure(path: Path) -> str:
    """What an answer says about the last try; empty where nothing failed."""
    if not path.is_file():
        return ""
    return str(json.loads(path.read_text(encoding="utf-8")).get("failure", ""))


def write_number(path: Path, num_rollouts: int, failure: str = "") -> None:
    """Replace a request or an answer."""
    write_json(path, {"rollouts": num_rollouts, **({"failure": failure} if failure else {})})


def write_fixed(path: Path, num_rollouts: int, reason: str) -> None:
    """Answer all requests to come: the number stays as it is."""
    write_json(path, {"rollouts": num_rollouts, "fixed": reason})


def _check_changes(path: Path) -> None:
    answer = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if reason := answer.get("fixed"):
        raise ValueError(
            f"a run must be able to change its number of rollout actors, found {reason}"
        )


def request_rollouts(run: RunDir, num_rollouts: int, *, timeout_s: float) -> None:
    """Ask a live run for this many rollout actors and wait until it has them.

    Raises ValueError for a folder that holds no live run and for a run whose number is fixed,
    TimeoutError when the run did not answer in time; the request then stays, and the run follows it
    when it can.
    """
    if num_rollouts < 1:
        raise ValueError(f"--rollouts must be at least 1, found {num_rollouts}")
    if not run.config.is_file():
        raise ValueError(f"RUN must be the folder of a run, found no config.yaml in {run.path}")
    if run.report_json.is_file():
        raise ValueError(f"RUN must be a live run, found a finished one in {run.path}")
    _check_changes(run.rollouts_json)
    write_number(run.scale_request, num_rollouts)
    end_s = time.monotonic() + timeout_s
    with announced_wait(lambda: f"{num_rollouts} rollout actors to work in {run.path}"):
        while (found := read_number(run.rollouts_json)) != num_rollouts:
            if time.monotonic() > end_s:
                failure = read_failure(run.rollouts_json)
                reason = "is it running, and has the cluster room for them?"
                if failure:
                    reason = f"the last try failed, and the run tries again: {failure}."
                raise TimeoutError(
                    f"the run must have {num_rollouts} rollout actors within {timeout_s:g} s, "
                    f"found {'no answer' if found is None else found}; {reason} The request stays"
                )
            time.sleep(_LOOK_EVERY_S)
