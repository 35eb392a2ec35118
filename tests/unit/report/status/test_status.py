"""Folders of live, finished, stopped, failed and dead runs, and folders that no run made."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from t2g_ray.report.status.status import RunStatus, read_status
from tests.unit.report.status.parts import (
    GRPO,
    digest,
    held_by_another_process,
    leave_lock,
    line,
    make_run,
    number_of_an_ended_process,
)


def test_a_live_run_says_how_far_how_fast_and_how_long(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(step) for step in range(1, 41)])
    (run / "evals.jsonl").write_text('{"step": 20, "split": "heldout", "f1/entities": 0.75}\n')
    (run / "checkpoints/step_000030").mkdir(parents=True)
    (run / "checkpoints/step_000030/COMPLETE").write_text("")
    (run / "checkpoints/.step_000040.partial").mkdir()
    (run / "rollouts.json").write_text('{"rollouts": 3, "failure": "no free device"}')
    (run / "scale.json").write_text('{"rollouts": 4}')
    before = digest(run)
    with held_by_another_process(run):
        status = read_status(run)
    assert (status.stage, status.state, status.step, status.steps) == ("GRPO", "live", 40, 100)
    assert status.pace.step_s == 2.0
    assert status.pace.steps_per_hour == 1800.0
    assert status.pace.tokens_per_s == 1000.0
    assert status.time_left_s == 120.0
    assert status.elapsed_s == 80.0
    assert status.trends["reward/mean"].now == pytest.approx(0.355)
    assert status.trends["reward/mean"].before == pytest.approx(0.255)
    assert status.means["staleness/max"] == 1
    assert status.bottleneck == "rollout actors: the learner waits 60% of the time, they 10%"
    assert status.fleet is not None
    assert (status.fleet.working, status.fleet.asked) == (3, 4)
    assert status.fleet.told == "failure: no free device"
    assert status.checkpoint is not None
    assert status.checkpoint.step == 30
    assert status.evaluation == {"step": 20, "f1/entities": 0.75}
    assert digest(run).items() >= before.items()


def test_a_finished_run_is_finished_whoever_left_its_lock(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(100)])
    (run / "report.json").write_text("{}")
    leave_lock(run, number_of_an_ended_process())
    status = read_status(run)
    assert status.state == "finished"
    assert status.time_left_s is None


def test_a_run_whose_process_is_gone_is_dead_and_says_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(7)])
    with held_by_another_process(run) as holder:
        assert read_status(run).state == "live"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        status = read_status(run)
    assert status.state == "dead"
    assert str(holder.pid) in status.reason
    assert "resume=auto" in status.reason


def test_a_lock_of_a_process_whose_number_another_one_has_now_is_dead(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(7)])
    leave_lock(run, os.getpid())  # lives, and has the lock not open
    assert read_status(run).state == "dead"


def test_a_run_that_failed_says_why_and_one_that_was_stopped_says_that(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(7)])
    failure = {"kind": "LoopError", "message": "out of memory", "notes": ["at version 7"]}
    (run / "failure.json").write_text(json.dumps({**failure, "is_stop": False}))
    status = read_status(run)
    assert (status.state, status.reason) == ("failed", "LoopError: out of memory")
    assert status.last_words == ("at version 7",)
    (run / "failure.json").write_text(json.dumps({**failure, "is_stop": True}))
    assert read_status(run).state == "stopped"
    (run / "failure.json").unlink()
    assert read_status(run).state == "stopped"


def test_a_run_on_another_machine_is_judged_by_its_newest_file_and_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(7)])
    leave_lock(run, 1, host="another-machine")
    status = read_status(run)
    assert status.state == "live"
    assert "another-machine" in status.reason
    assert "judged by its newest file" in status.reason
    for path in run.iterdir():
        os.utime(path, (time.time() - 10_000,) * 2)
    status = read_status(run)
    assert status.state == "silent"
    assert "can only be told on another-machine" in status.reason


def test_half_written_and_damaged_files_are_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(1), line(2)])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('not json\n[1]\n{"step": 3, "time_s": null, "loss": null}\n{"step": 4, "ti')
    (run / "rollouts.json").write_text('{"rollo')
    (run / "failure.json").write_text("[]")
    status = read_status(run)
    assert status.step == 3
    assert status.pace.step_s == 2.0
    assert status.fleet is not None
    assert status.fleet.working == 2


def test_a_run_without_a_step_has_no_figures(tmp_path: Path) -> None:
    status = read_status(make_run(tmp_path / "run", GRPO, []))
    assert status.step == 0
    assert status.pace.step_s is None
    assert status.trends == {}
    assert status.checkpoint is None
    assert status.evaluation is None


@pytest.mark.parametrize(("settings", "steps"), [({"steps": 12}, 12), ({"epochs": 3.0}, 30)])
def test_sft_ends_with_its_model(settings: dict[str, float], steps: int, tmp_path: Path) -> None:
    lines = [{"step": step, "time_s": 0.5 * step, "epoch": step / 10} for step in (1, 2, steps)]
    run = make_run(tmp_path / "run", {"batch_size": 4, "steps": None, **settings}, lines)
    status = read_status(run)
    assert (status.stage, status.state, status.steps) == ("SFT", "stopped", steps)
    assert status.fleet is None
    (run / "model").mkdir()
    (run / "model/config.json").write_text("{}")
    assert read_status(run).state == "finished"


def test_data_generate_counts_the_shards_of_its_stage(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"teacher": {}}, [])
    (run / "answers/graph").mkdir(parents=True)
    (run / "answers/graph.json").write_text('{"shards": 12, "answered": 5}')
    status = read_status(run)
    assert (status.stage, status.unit) == ("data generate", "shard of the stage graph")
    assert (status.step, status.steps, status.state) == (5, 12, "stopped")
    (run / "card.json").write_text("{}")
    assert read_status(run).state == "finished"


def test_a_folder_that_no_run_made_is_refused_with_what_is_there(tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(ValueError, match="RUN must be the folder of a run") as caught:
            read_status(folder)
        return str(caught.value)

    assert "found no config.yaml" in refused(tmp_path)
    assert "found no config.yaml" in refused(tmp_path / "missing")
    make_run(tmp_path / "demo/grpo", GRPO, [])
    assert "runs inside it: grpo" in refused(tmp_path / "demo")
    for text in ("a: b\n", "- 1\n", "a: [\n", "run_dir: x\nother: 1\n"):
        (tmp_path / "config.yaml").write_text(text)
        assert "of no stage" in refused(tmp_path)


def test_the_status_of_a_run_is_plain_data(tmp_path: Path) -> None:
    from dataclasses import asdict

    status = read_status(make_run(tmp_path / "run", GRPO, [line(1), line(2)]))
    assert isinstance(status, RunStatus)
    assert json.loads(json.dumps(asdict(status)))["trends"]["f1/entities"]["now"] == 0.5
