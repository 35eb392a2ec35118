"""What a folder keeps of the error that ended its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2g_ray.run.folder import RunDir
from t2g_ray.run.resume.ending import kept_failure
from t2g_ray.run.stopping import RunStopped


def a_run(tmp_path: Path) -> RunDir:
    (tmp_path / "config.yaml").write_text("steps: 1\n")
    return RunDir(tmp_path)


def test_an_error_is_kept_with_its_notes_and_goes_on(tmp_path: Path) -> None:
    run, error = a_run(tmp_path), RuntimeError("no memory")
    error.add_note("at version 3")
    with pytest.raises(RuntimeError, match="no memory"), kept_failure(run):
        raise error
    kept = json.loads(run.failure.read_text())
    assert (kept["kind"], kept["message"]) == ("RuntimeError", "no memory")
    assert kept["notes"] == ["at version 3"]
    assert kept["is_stop"] is False


def test_a_stop_is_no_failure(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    with pytest.raises(RunStopped), kept_failure(run):
        raise RunStopped("stopped at step 2")
    assert json.loads(run.failure.read_text())["is_stop"] is True


def test_a_new_start_removes_what_an_earlier_one_left(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.failure.write_text("{}")
    with kept_failure(run):
        assert not run.failure.exists()
    assert not run.failure.exists()


def test_a_folder_without_a_run_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), kept_failure(RunDir(tmp_path / "gone")):
        raise ValueError("bad")
    assert not (tmp_path / "gone").exists()
