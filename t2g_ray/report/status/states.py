"""What lies in a run folder -> whether its run lives, ended or died, and how that is known.

Only the machine of a run can say that its process lives. From another one its newest line is
looked at, which is late where clocks differ or storage is slow, and the answer says so.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal

from t2g_ray.report.status.holder import Holder
from t2g_ray.report.status.reading import JsonObject

State = Literal["live", "finished", "stopped", "failed", "dead", "silent"]
"""dead: its process is gone without a word. silent: on another machine, and long without a line."""

PATIENCE_STEPS = 20
PATIENCE_S = 900.0
"""Longer than a start, an evaluation or a checkpoint usually takes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state and how it is known."""

    state: State
    reason: str


def verdict_of(
    *,
    is_finished: bool,
    holder: Holder | None,
    failure: JsonObject,
    sign_s: float | None,
    step_s: float | None,
) -> Verdict:
    """`sign_s`: seconds since the run last wrote anything; `step_s`: seconds that a step takes."""
    if is_finished:
        return Verdict("finished", "all of its steps were taken")
    if holder is None:
        return _without_holder(failure)
    who = f"process {holder.process} on {holder.host} ({holder.command}), since {holder.since},"
    if holder.lives:
        return Verdict("live", f"{who} has the folder")
    if holder.lives is False:
        return Verdict(
            "dead",
            f"{who} is gone and left its lock: it was killed, out of memory, or the machine "
            "restarted; resume=auto goes on from the last checkpoint",
        )
    patience_s = max(PATIENCE_S, PATIENCE_STEPS * (step_s or 0))
    if sign_s is not None and sign_s <= patience_s:
        told = f"{who} has the folder; asked on {platform.node()}, so judged by its newest file"
        return Verdict("live", told)
    return Verdict(
        "silent",
        f"{who} had the folder and has written nothing for longer than {patience_s:.0f} s; whether "
        f"it lives can only be told on {holder.host}, this is {platform.node()}",
    )


def _without_holder(failure: JsonObject) -> Verdict:
    if not failure:
        return Verdict("stopped", "no process has the folder, and not all steps were taken")
    told = f"{failure.get('kind')}: {failure.get('message')}"
    return Verdict("stopped" if failure.get("is_stop") else "failed", told)
