"""Real trackers follow the files of a run: every number, once, over resumes and kills.

Goes through tools/to_wandb, to_mlflow, to_trackio and to_tensorboard, and reads back what they hold
by the readers of their own packages.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t2g_ray.run.jsonlines import cut_after_step
from t2g_ray.run.trackers.state import read_state
from t2g_ray.run.trackers.tools.wandb_files import records
from t2g_ray.run.trackers.tracking import tracking
from tests.unit.run.trackers.parts import (
    NAMES,
    REFERENCE,
    Writer,
    mlflow_run,
    packages,
    points_in,
    tracked_run,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("packages")]
__all__ = ["packages"]
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of five steps that took 4 and 5 twice: it was resumed at step 3."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def resumed(folder: Path) -> Path:
    if (folder / "trackers").exists():
        return folder
    writer, tracked = Writer(folder), tracked_run(folder)
    with tracking(NAMES, tracked, resume_step=None):
        writer.evaluation(0, 0.25)
        for step in (1, 2, 3, 4, 5):
            writer.step(step, kl=None if step == 2 else 0.5)
    for path in (writer.run.metrics, writer.run.samples):
        cut_after_step(path, 3)
    with tracking(NAMES, tracked, resume_step=3):
        for step in (4, 5, 6):
            writer.step(step, kl=7.0)
        writer.evaluation(6, 0.75)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_holds_every_key_and_each_step_once_over_a_resume(
    name: str, resumed: Path
) -> None:
    points = points_in(name, tracked_run(resumed))
    lines = [json.loads(line) for line in (resumed / "metrics.jsonl").read_text().splitlines()]
    steps = [1, 2, 3, 4, 5, 6]
    for key in lines[0].keys() - {"step"}:
        assert [step for step, _ in points[key]] == steps, key
    assert set(steps) <= {int(value) for _, value in points["step"]}
    assert points["loss"] == [(step, step / 4) for step in steps]
    assert points["eval/heldout/f1/entities"] == [(0, 0.25), (6, 0.75)]
    taken_back = 7.0 if name == "tensorboard" else 0.5
    kl = dict(points["kl"])
    assert math.isnan(kl.pop(2))
    assert kl == {1: 0.5, 3: 0.5, 4: taken_back, 5: taken_back, 6: 7.0}


def test_the_same_runs_are_gone_on_with_and_have_name_tags_and_settings(resumed: Path) -> None:
    client, run = mlflow_run(resumed)
    assert run.info.run_name == "a run"
    assert run.info.status == "FINISHED"
    assert run.data.params["learner.ranks"] == "2"
    assert run.data.tags["small"] == "true"
    runs = [
        record.run for record in records(resumed / "trackers" / "wandb") if record.HasField("run")
    ]
    assert len(runs) == 2
    assert len({run.run_id for run in runs}) == 1
    assert (runs[0].display_name, list(runs[0].tags)) == ("a run", ["first", "small"])
    settings = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert settings["learner.ranks"] == 2
    assert client is not None


def test_samples_are_tables_of_texts_with_their_graphs(resumed: Path) -> None:
    tables = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (
            *resumed.glob("trackers/wandb/*/files/media/table/samples*.json"),
            *resumed.glob("trackers/mlflow/*/*/artifacts/samples/*.json"),
        )
    ]
    assert len(tables) >= 4
    for table in tables:
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        assert {row["text"] for row in rows} == {"Zoë lives."}
        assert {row["gold"] for row in rows} == {'{"entities": ["Zoë | *b*"]}'}
        assert {(row["predicted"], row["reward"]) for row in rows} == {(None, 0.25)}


KILLED = """
import sys, time
sys.path[:0] = [{root!r}]
sys.path.append({reference!r})
from pathlib import Path
from t2g_ray.run.trackers.tools.wandb_files import records
from t2g_ray.run.trackers.tracking import tracking
from tests.unit.run.trackers.parts import NAMES, Writer, tracked_run
folder = Path({folder!r})
writer = Writer(folder)
with tracking(NAMES, tracked_run(folder, project={project!r}), resume_step=None):
    writer.evaluation(0, 0.25)
    for step in range(1, 100):
        writer.step(step)
        time.sleep(0.2)
"""


def test_a_killed_run_goes_on_without_lost_or_doubled_steps(tmp_path: Path) -> None:
    project = f"killed-{tmp_path.name}"
    script = KILLED.format(
        root=str(ROOT), reference=str(REFERENCE), folder=str(tmp_path), project=project
    )
    # Without it the child would use the service of wandb that this process started.
    own = {name: value for name, value in os.environ.items() if "WANDB_SERVICE" not in name}
    child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=own)
    writer, tracked = Writer(tmp_path), tracked_run(tmp_path, project=project)
    end = time.monotonic() + 60
    while time.monotonic() < end and not all(has_steps(writer, name) for name in NAMES):
        time.sleep(0.1)
    child.kill()
    child.wait()
    last = len(writer.run.metrics.read_text().splitlines()) - 1
    assert all(has_steps(writer, name) for name in NAMES)
    with tracking(NAMES, tracked, resume_step=last):
        for step in range(last + 1, last + 4):
            writer.step(step)
    for name in NAMES:
        points = points_in(name, tracked)
        assert points.get("loss") == [(s, s / 4) for s in range(1, last + 4)], name


def has_steps(writer: Writer, name: str) -> bool:
    state = read_state(writer.run, name) if writer.run.trackers.exists() else None
    return state is not None and state.step > 1


def test_a_tracker_that_cannot_begin_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    writer = Writer(tmp_path)
    with tracking(
        ["mlflow"], tracked_run(tmp_path, is_offline=False), resume_step=None, drain_s=3.0
    ):
        writer.step(1)
        writer.step(2)
    state = read_state(writer.run, "mlflow")
    assert state is not None and (state.step, state.faults > 0) == (-1, True)
    told = [record.getMessage() for record in caplog.records if "t2g_ray" in record.name]
    assert len(told) == 2
    assert "tracker mlflow failed: MlflowException" in told[0]
    assert "mlflow did not take the rest of the run in time: steps after -1 may be" in told[1]


def test_what_a_tracker_keeps_of_steps_that_are_taken_again_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(tmp_path)
    with tracking(["mlflow", "tensorboard"], tracked_run(tmp_path), resume_step=None):
        writer.step(1)
        writer.step(2)
    with tracking(["mlflow", "tensorboard"], tracked_run(tmp_path), resume_step=1):
        pass
    told = capsys.readouterr().err
    assert "mlflow has steps up to 2 and takes none back: of steps 2 to 2" in told
    assert "tensorboard" not in told
    for name, steps in (("mlflow", [1, 2]), ("tensorboard", [1])):
        assert [step for step, _ in points_in(name, tracked_run(tmp_path))["loss"]] == steps
