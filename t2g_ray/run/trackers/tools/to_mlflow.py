"""Steps of a run -> a run of MLflow: on the server that MLFLOW_TRACKING_URI names, else in files of
the run folder. MLflow takes back no step: what it has stays.
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t2g_ray.run.trackers.tracker import COLUMNS, Row, TrackedRun

_MAX_PARAMS = 100
_MAX_VALUE = 6000
"""Limits of MLflow for one message, and for the text of a parameter."""


class MlflowTracker:
    """Implements `Tracker`. An empty `id` begins a run."""

    def __init__(self, run: TrackedRun, id: str) -> None:
        # Nothing but what the run writes may leave the machine.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._mlflow: Any = importlib.import_module("mlflow")
        self._client: Any = self._mlflow.tracking.MlflowClient(tracking_uri=_store(run))
        self.id = id
        if id:
            self._client.update_run(id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(run.project)
        experiment = found.experiment_id if found else self._client.create_experiment(run.project)
        tags = {"mlflow.runName": run.name, **dict.fromkeys(run.tags, "true")}
        begun = self._client.create_run(experiment, run_name=run.name, tags=tags)
        self.id = begun.info.run_id
        self._tell_config(run.config)

    def _tell_config(self, config: Mapping[str, object]) -> None:
        params = [
            self._mlflow.entities.Param(key, str(value)[:_MAX_VALUE])
            for key, value in config.items()
        ]
        for first in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self.id, params=params[first : first + _MAX_PARAMS])

    def newest_step(self) -> int | None:
        history = self._client.get_metric_history(self.id, "step")
        return max((point.step for point in history), default=None)

    def take(self, step: int, numbers: Mapping[str, float], rows: Sequence[Row]) -> None:
        if rows:
            table = {"columns": list(COLUMNS), "data": [list(row) for row in rows]}
            self._client.log_dict(self.id, table, f"samples/step_{step:06d}.json")
        now_ms = int(time.time() * 1000)
        # The last point of the message: where "step" is, all of them are.
        ordered = {**{k: v for k, v in numbers.items() if k != "step"}, "step": float(step)}
        points = [
            self._mlflow.entities.Metric(re.sub(r"[^\w\-. :/]", "_", key), value, now_ms, step)
            for key, value in ordered.items()
        ]
        self._client.log_batch(self.id, metrics=points if numbers else [])

    def close(self, *, is_whole: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if is_whole else "FAILED")


def _store(run: TrackedRun) -> str:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and not run.is_offline:
        return address
    # MLflow keeps files for those who ask for them by this variable.
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    place: Path = run.place("mlflow")
    place.mkdir(parents=True, exist_ok=True)
    return place.resolve().as_uri()
