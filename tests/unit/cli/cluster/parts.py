"""A stand-in for the cluster's jobs."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from t2g_ray.run.job.state import Job

ADDRESS = "http://head:8265"


def job(status: str = "RUNNING") -> Job:
    return Job(
        name="job-1",
        status=status,
        command="t2g grpo a.yaml",
        message="Job is well.",
        started_s=1_000_000.0,
        ended_s=1_000_090.0,
    )


def stand_in(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Takes every job and ends it with the status that is set under "status"."""
    seen: dict[str, Any] = {"status": "SUCCEEDED"}

    def submit(command: Sequence[str], *, checkout: Path, **options: Any) -> SimpleNamespace:
        seen.update(command=list(command), checkout=checkout, **options)
        return SimpleNamespace(job="job-1", summary="job job-1: 3 files")

    def ending(what: str) -> Callable[..., Job]:
        def end(name: str, *, address: str, **watch: Callable[[str], None]) -> Job:
            seen[what] = (name, address)
            if seen["status"] == "INTERRUPTED":
                raise KeyboardInterrupt
            watch["show"]("a line\n")
            watch["tell"]("(a word)")
            return job(seen["status"])

        return end

    sending, looking = ModuleType("actors.submit"), ModuleType("actors.jobs")
    parts = {
        "follow": ending("followed"),
        "stop": ending("stopped"),
        "jobs": lambda address: [job(), job("FAILED")],
        "job": lambda name, *, address: job(),
        "log": lambda name, *, address: "all lines\n",
    }
    sending.submit = submit  # type: ignore[attr-defined]
    for name, part in parts.items():
        setattr(looking, name, part)
    patch.setitem(sys.modules, "actors.submit", sending)
    patch.setitem(sys.modules, "actors.jobs", looking)
    import actors

    patch.setattr(actors, "jobs", looking, raising=False)
    return seen
