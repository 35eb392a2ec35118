"""A folder with or without checkpoints -> where a resumed run goes on, or why it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from t2g_ray.run.checkpoint import CheckpointError, write_checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.resume.meaning import Meaning, ResumeError
from t2g_ray.run.resume.start import (
    check_meaning,
    check_steps,
    enter,
    enter_at_nothing,
    find_start,
    resume_step,
)

OWN = Meaning(stage="SFT", settings={"learner.optimizer.lr": 1.0, "seed": 0}, contents={})


def write(run: RunDir, *steps: int, num_lines: int | None = None) -> None:
    for step in steps:
        write_checkpoint(
            run.checkpoint(step), lambda folder: None, {"step": step, "meaning": OWN.state()}
        )
    lines = [json.dumps({"step": step + 1}) for step in range(num_lines or max(steps, default=0))]
    run.metrics.write_text("".join(f"{line}\n" for line in lines))


def snapshot(run: RunDir) -> dict[str, bytes]:
    files = (path for path in sorted(run.path.rglob("*")) if path.is_file())
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


def test_a_run_goes_on_from_the_newest_whole_checkpoint_and_tells_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path)
    write(run, 5, 10)
    (run.checkpoint(10) / "COMPLETE").unlink()
    run.report_json.write_text("{}")
    start = find_start(run)
    assert start is not None
    changed = replace(OWN, settings={**OWN.settings, "learner.optimizer.lr": 2.0})
    enter(run, start, check_meaning(run, start, changed))
    assert capsys.readouterr().err.splitlines() == [
        "left out: step_000010 is not whole: COMPLETE is missing",
        "changed on resume: learner.optimizer.lr: was 1.0, is 2.0",
        f"resumed at step 5 from {run.checkpoint(5)}",
    ]
    (kept,) = read_json_lines(run.resumes)
    assert (kept["step"], len(kept["told"])) == (5, 2)
    assert not run.checkpoint(10).exists()
    assert not run.report_json.exists()
    assert resume_step(False, start) == 5


@pytest.mark.parametrize("loss", ["none written", "folder removed", "half written"])
def test_steps_without_a_checkpoint_are_not_started_over_in_silence(
    tmp_path: Path, loss: str
) -> None:
    run = RunDir(tmp_path)
    write(run, num_lines=7)
    if loss != "none written":
        run.checkpoints.mkdir()
    if loss == "half written":
        (run.checkpoints / ".step_000007.partial").mkdir()
    before = snapshot(run)
    with pytest.raises(ResumeError, match=r"found none and metrics up to step 7.*another run_dir"):
        find_start(run)
    assert snapshot(run) == before


def test_damaged_checkpoints_alone_stop_the_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write(run, 5)
    (run.checkpoint(5) / "state.json").unlink()
    with pytest.raises(CheckpointError):
        find_start(run)


def test_a_start_that_took_no_step_is_like_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.initial_model.mkdir()
    assert find_start(run) is None
    enter_at_nothing(run)
    assert not run.initial_model.exists()
    assert (resume_step(True, None), resume_step(False, None)) == (None, -1)


def test_another_run_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write(run, 5, 10)
    (run.checkpoint(10) / "COMPLETE").unlink()
    before = snapshot(run)
    start = find_start(run)
    assert start is not None
    with pytest.raises(ResumeError, match="seed: was 0, is 1"):
        check_meaning(run, start, replace(OWN, settings={**OWN.settings, "seed": 1}))
    with pytest.raises(ResumeError, match="at least the 5 steps"):
        check_steps(start, 4)
    check_steps(start, 5)
    assert snapshot(run) == before


def test_lost_lines_of_metrics_are_told(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write(run, 5, num_lines=3)
    start = find_start(run)
    assert start is not None
    told = check_meaning(run, start, OWN)
    assert told == ["metrics.jsonl ends at step 3: the lines up to step 5 are missing"]
