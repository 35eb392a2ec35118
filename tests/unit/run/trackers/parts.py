"""The files of a run as it writes them, and what each tracker holds, read by its own package."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.run.folder import RunDir
from t2g_ray.run.trackers.tools.wandb_files import records
from t2g_ray.run.trackers.tracker import TrackedRun

REFERENCE = Path(__file__).parents[4] / ".venv" / "reference"
NAMES = ("wandb", "mlflow", "trackio", "tensorboard")

if "TRACKIO_DIR" not in os.environ:  # trackio reads it once, when it is imported
    os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="t2g-trackio-")
    atexit.register(shutil.rmtree, os.environ["TRACKIO_DIR"], ignore_errors=True)

Points = dict[str, list[tuple[int, float]]]
"""Key -> (step, value) in the order in which a tracker holds them."""


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trackers can be imported here alone, and what they write stays in the test's folder."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(REFERENCE)])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in NAMES:
        pytest.importorskip(name, reason="requirements/reference.txt is not installed")


def tracked_run(folder: Path, **fields: Any) -> TrackedRun:
    values: dict[str, Any] = {
        "project": f"project-{os.getpid()}",
        "name": "a run",
        "tags": ["first", "small"],
        "config": {"learner.ranks": 2, "model": "embedded", "eval.max_new_tokens": None},
        "is_offline": True,
    }
    return TrackedRun(folder=folder, **{**values, **fields})


class Writer:
    """Writes lines as a run does."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDir(folder)

    def step(self, step: int, **numbers: float | None) -> None:
        line = {"step": step, "policy_version": step, "loss": step / 4, **numbers}
        self._append(self.run.metrics, line)
        self.sample(step, "train")

    def evaluation(self, step: int, f1: float, samples: int = 2) -> None:
        line = {"step": step, "policy_version": step, "split": "heldout", "f1/entities": f1}
        self._append(self.run.evals, {**line, "by_record": [[1, 0, 0, 0, 0, 0]]})
        for number in range(samples):
            self.sample(step, "heldout", number)

    def sample(self, step: int, split: str, number: int = 0) -> None:
        line = {"step": step, "policy_version": step, "split": split, "prompt_index": number}
        graphs = {"gold": {"entities": ["Zoë | *b*"]}, "predicted": None}
        texts = {"text": "Zoë lives.", "completion": '{"entities": [', "reward": 0.25}
        self._append(self.run.samples, {**line, **texts, **graphs})

    def _append(self, path: Path, line: Mapping[str, object]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def is_closed(place: Path) -> bool:
    """Whether the file of the newest run below `place` has its last record."""
    newest = max(place.glob("offline-run-*"))
    return any(record.HasField("exit") for record in records(newest.parent, newest.name))


def wandb_points(folder: Path) -> Points:
    points: Points = {}
    place = folder / "trackers" / "wandb"
    end_s = time.monotonic() + 20
    # W&B's own process closes the file a moment after it said that the run is over.
    while time.monotonic() < end_s and not is_closed(place):
        time.sleep(0.05)
    for record in records(place):
        items = {i.key or ".".join(i.nested_key): i.value_json for i in record.history.item}
        for key, value in items.items():
            if not key.startswith("_") and not key.startswith("samples"):
                point = (int(items["_step"]), float(json.loads(value)))
                points.setdefault(key, []).append(point)
    return points


def mlflow_run(folder: Path) -> tuple[Any, Any]:
    """The client, and the one run of the folder."""
    from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]

    client = MlflowClient(tracking_uri=(folder / "trackers" / "mlflow").as_uri())
    experiments = [e.experiment_id for e in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return client, run


def mlflow_points(folder: Path) -> Points:
    client, run = mlflow_run(folder)
    return {
        key: [
            (point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)
        ]
        for key in run.data.metrics
    }


def tensorboard_points(folder: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    events = EventAccumulator(str(folder / "trackers" / "tensorboard"))
    events.Reload()
    keys = events.Tags()["scalars"]
    return {key: [(e.step, e.value) for e in events.Scalars(key)] for key in keys}


def trackio_points(project: str) -> Points:
    from trackio.sqlite_storage import SQLiteStorage  # type: ignore[import-not-found]

    (run,) = SQLiteStorage.get_run_records(project)
    points: Points = {}
    for line in SQLiteStorage.get_logs(project, run["name"]):
        # Every point of trackio has its step.
        for key, value in {**line, "step": line["step"]}.items():
            if isinstance(value, int | float):
                points.setdefault(key, []).append((line["step"], float(value)))
    return points


def points_in(name: str, tracked: TrackedRun) -> Points:
    """What a tracker holds of a run."""
    if name == "trackio":
        return trackio_points(tracked.project)
    read = {"wandb": wandb_points, "mlflow": mlflow_points, "tensorboard": tensorboard_points}[name]
    return read(tracked.folder)
