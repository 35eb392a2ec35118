"""How far a tracker is, in a file of the run folder, so that a resumed run goes on in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from t2g_ray.run.folder import RunDir, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerState:
    """What one tracker has of a run."""

    id: str
    """Of the tracker's run; empty before it began, and where none is needed."""
    step: int = -1
    """Last step whose numbers it took."""
    rows_step: int = -1
    """Last step whose completions it took."""
    faults: int = 0
    """How often it failed."""

    def write(self, run: RunDir, name: str) -> None:
        """Replace the file."""
        path = _path(run, name)
        path.parent.mkdir(exist_ok=True)
        write_json(path, asdict(self))


def read_state(run: RunDir, name: str) -> TrackerState | None:
    """None where the tracker never took part in the run."""
    path = _path(run, name)
    return TrackerState(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def num_faults(run: RunDir) -> int:
    """How often the trackers of a run failed."""
    paths = run.trackers.glob("*.json")
    return sum(json.loads(path.read_text(encoding="utf-8"))["faults"] for path in paths)


def _path(run: RunDir, name: str) -> Path:
    return run.trackers / f"{name}.json"
