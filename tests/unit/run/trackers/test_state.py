"""How far a tracker is, on disk."""

from __future__ import annotations

from pathlib import Path

from t2g_ray.run.folder import RunDir
from t2g_ray.run.trackers.state import TrackerState, num_faults, read_state


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert read_state(run, "wandb") is None
    state = TrackerState(id="abc", step=7, rows_step=5, faults=2)
    state.write(run, "wandb")
    assert read_state(run, "wandb") == state


def test_faults_are_those_of_all_trackers(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert num_faults(run) == 0
    TrackerState(id="", faults=2).write(run, "mlflow")
    TrackerState(id="", faults=3).write(run, "wandb")
    assert num_faults(run) == 5
