"""What a stage tells its trackers, and what it never tells them."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from actors.watch.trackers import check, tracked
from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.run.folder import RunDir
from t2g_ray.run.trackers.check import TrackerError
from t2g_ray.run.trackers.state import num_faults
from tests.unit.run.trackers.parts import Writer, mlflow_run, packages

__all__ = ["packages"]


@pytest.mark.slow
@pytest.mark.usefixtures("packages")
def test_no_secret_and_nothing_of_the_machine_reaches_a_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-in-the-environment")
    monkeypatch.setattr("sys.argv", ["t2g", "planted-on-the-command-line"])
    config = build_config(
        GrpoConfig,
        {
            "run_dir": str(tmp_path / "a_run"),
            "model": "https://me:planted-in-an-address@host/model",
            "rollout": {"engine": {"hf_token": "planted-by-name"}},
            "trackers": ["wandb", "mlflow", "tensorboard"],
            "tracking": {"offline": True, "tags": ["first"]},
        },
    )
    run = RunDir(config.run_dir)
    run.path.mkdir()
    writer = Writer(run.path)
    with tracked(config, run, None):
        writer.step(1)
        writer.evaluation(1, 0.5)
    assert num_faults(run) == 0
    _, told = mlflow_run(run.path)
    assert told.info.run_name == "a_run"
    assert told.data.params["rollout.engine.hf_token"] == "(hidden)"
    assert told.data.params["group_size"] == "8"
    files = [path for path in run.trackers.rglob("*") if path.is_file() and not is_log(path)]
    assert len(files) > 10
    for path in files:
        assert b"planted" not in path.read_bytes(), path
        assert not is_told(path) or socket.gethostname().encode() not in path.read_bytes(), path


def is_log(path: Path) -> bool:
    """W&B's own logs stay on the machine."""
    return path.suffix == ".log"


def is_told(path: Path) -> bool:
    """Short host names stand in many a file by chance."""
    return len(socket.gethostname()) > 5 and path.suffix == ".wandb"


def test_a_tracker_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2g_ray.run.trackers.check.find_spec", lambda name: None)
    config = build_config(SftConfig, {"run_dir": "x", "trackers": ["mlflow"]})
    with pytest.raises(TrackerError, match="mlflow needs the package"):
        check(config)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("kind", [SftConfig, GrpoConfig])
def test_the_earlier_key_of_tensorboard_is_refused_with_the_new_one(
    kind: type[SftConfig] | type[GrpoConfig], value: bool
) -> None:
    with pytest.raises(ValueError, match=r"write trackers: \[tensorboard\] in its place"):
        build_config(kind, {"run_dir": "x", "tensorboard": value})


def test_a_run_without_trackers_leaves_no_folder_of_them(tmp_path: Path) -> None:
    config = build_config(SftConfig, {"run_dir": str(tmp_path)})
    with tracked(config, RunDir(tmp_path), None):
        Writer(tmp_path).step(1)
    assert not (tmp_path / "trackers").exists()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 1


def test_a_resume_without_trackers_leaves_files_to_their_writers(tmp_path: Path) -> None:
    config = build_config(SftConfig, {"run_dir": str(tmp_path)})
    Writer(tmp_path).step(1)
    files = [tmp_path / "metrics.jsonl", tmp_path / "samples.jsonl"]
    before = [path.stat().st_ino for path in files]
    with tracked(config, RunDir(tmp_path), 1):
        assert [path.stat().st_ino for path in files] == before
