"""Steps of a run -> a run of trackio, in its folder on this machine (TRACKIO_DIR), or where
TRACKIO_SPACE_ID or TRACKIO_SERVER_URL send it. trackio takes back no step: what it has stays.

trackio finds runs by their name, so the id is a part of the name; and it reports no failure, so
what it holds is compared with what it was given when the run ends.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from t2g_ray.run.trackers.tracker import COLUMNS, Row, TrackedRun

_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioTracker:
    """Implements `Tracker`."""

    def __init__(self, run: TrackedRun, id: str) -> None:
        self.id = id
        if run.is_offline:
            for name in _REMOTE:
                os.environ.pop(name, None)
        self._is_local = not any(map(os.environ.get, _REMOTE))
        self._trackio: Any = importlib.import_module("trackio")
        self._project, self._name = run.project, f"{run.name}-{id}"
        with redirect_stdout(sys.stderr):
            self._run: Any = self._trackio.init(
                project=run.project,
                name=self._name,
                config={"tags": list(run.tags), **run.config},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._given = -1

    def newest_step(self) -> int | None:
        if not self._is_local:
            return None
        step = self._trackio.SQLiteStorage.get_last_step(self._project, self._name)
        return None if step is None else int(step)

    def take(self, step: int, numbers: Mapping[str, float], rows: Sequence[Row]) -> None:
        # "step" is a word of trackio's own: every point has it.
        data: dict[str, Any] = {key: value for key, value in numbers.items() if key != "step"}
        if rows:
            cells = [list(row) for row in rows]
            data["samples"] = self._trackio.Table(columns=list(COLUMNS), data=cells)
        self._run.log(data, step=step)
        self._given = step

    def close(self, *, is_whole: bool) -> None:
        with redirect_stdout(sys.stderr):
            self._run.finish()
        held = self.newest_step()
        if self._is_local and (held if held is not None else -1) < self._given:
            raise RuntimeError(f"trackio was given step {self._given}, and holds {held}")
