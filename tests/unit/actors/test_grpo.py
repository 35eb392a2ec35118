"""What a start or a resume of GRPO settles before there are actors, which are stand-ins here.

Whole runs are those of tests/integration/test_grpo.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import actors.grpo as module
from t2g_ray.config import GrpoConfig, build_config, dump_config
from t2g_ray.records.corpus import generate_records
from t2g_ray.records.jsonl import write_records
from t2g_ray.run.checkpoint import write_checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.resume.lock import held
from t2g_ray.run.resume.meaning import ResumeError

STEPS = 4


class Stage:
    """Stands in for the actors and the loop: takes all its steps at once, or fails."""

    started: ClassVar[list[int]] = []
    """First step of each start."""
    failure: type[BaseException] | None = None

    def __init__(self, *arguments: Any) -> None:
        config, run, inputs, start, _kept, _sinks = arguments
        if Stage.failure is not None:
            raise Stage.failure
        self._config, self._run, self._inputs = config, run, inputs
        Stage.started.append(start.step if start else 0)

    def run(self, resume_step: int | None, started: float) -> None:
        """Leave what a whole run leaves, a line of metrics a step."""
        run, steps = self._run, self._config.steps
        state = {"step": steps, "ledger": {}, "meaning": self._inputs.meaning.state()}
        write_checkpoint(run.checkpoint(steps), lambda folder: None, state)
        run.metrics.write_text("".join(f'{{"step": {step + 1}}}\n' for step in range(steps)))
        splits = self._inputs.heldout
        lines = [{"split": split, "step": step} for split in splits for step in (0, steps)]
        run.evals.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        run.report_json.write_text(json.dumps({"steps": steps}))


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch) -> type[Stage]:
    monkeypatch.setattr(Stage, "started", [])
    monkeypatch.setattr(Stage, "failure", None)
    monkeypatch.setattr(module, "_GrpoRun", Stage)
    monkeypatch.setattr(module, "connect", lambda deadlines: None)
    return Stage


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for part in ("train", "heldout"):
        write_records(tmp_path / f"{part}.jsonl", generate_records(part, 6, seed=0))
    return tmp_path


def config_of(folder: Path, **tree: Any) -> GrpoConfig:
    files = {part: str(folder / f"{part}.jsonl") for part in ("train", "heldout")}
    tree = {"steps": STEPS, "resume": "auto", **tree}
    return build_config(
        GrpoConfig,
        {"run_dir": str(folder / "run"), **tree, "data": {**files, **tree.get("data", {})}},
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_finished_run_is_told_and_left_as_it_is(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = module.run_grpo(config_of(data))
    before = snapshot(data)
    again = module.run_grpo(config_of(data, learner={"optimizer": {"lr": 0.5}}))
    assert (again, Stage.started) == (run, [0])
    assert snapshot(data) == before
    assert f"{run.path} is finished, all 4 steps" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["all removed", "folder removed", "last one bad"])
def test_a_finished_run_needs_its_checkpoints_no_more(data: Path, damage: str) -> None:
    run = module.run_grpo(config_of(data))
    if damage == "last one bad":
        shutil.copytree(run.checkpoint(STEPS), run.checkpoint(STEPS + 1))
        (run.checkpoint(STEPS + 1) / "COMPLETE").unlink()
    else:
        shutil.rmtree(run.checkpoint(STEPS) if damage == "all removed" else run.checkpoints)
    before = snapshot(data)
    module.run_grpo(config_of(data))
    assert (snapshot(data), Stage.started) == (before, [0])


def test_a_finished_run_goes_on_with_more_steps(data: Path) -> None:
    run = module.run_grpo(config_of(data))
    module.run_grpo(config_of(data, steps=6))
    assert Stage.started == [0, STEPS]
    assert "steps: 6\n" in run.config.read_text()


def test_a_run_that_is_not_reported_goes_on_from_its_last_step(data: Path) -> None:
    module.run_grpo(config_of(data)).report_json.unlink()
    module.run_grpo(config_of(data))
    assert Stage.started == [0, STEPS]


def rewrite(path: Path, count: int) -> None:
    write_records(path, generate_records("rl", count, seed=3))


DAMAGE: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "records grown": (lambda data: rewrite(data / "train.jsonl", 8), {}, "training records: was 6"),
    "other held-out records": (
        lambda data: rewrite(data / "heldout.jsonl", 6),
        {},
        "heldout records: was 6",
    ),
    "no held-out records": (
        lambda data: None,
        {"data": {"heldout": "none"}},
        "heldout records: was 6 records",
    ),
    "adapters": (lambda data: None, {"learner": {"lora": {"rank": 4}}}, "learner.lora.rank: was 0"),
    "group size": (lambda data: None, {"group_size": 4}, "group_size: was 8, is 4"),
    "loss": (lambda data: None, {"algorithm": {"objective": "cispo"}}, "algorithm.objective: was"),
    "shards": (lambda data: None, {"learner": {"zero_stage": 2}}, "learner.zero_stage: was 0, is"),
    "betas": (
        lambda data: None,
        {"learner": {"optimizer": {"beta1": 0.5}}},
        "learner.optimizer.beta1: was 0.9, is 0.5",
    ),
    "another name": (
        lambda data: (data / "run" / "checkpoints" / "step_000004").rename(
            data / "run" / "checkpoints" / "step_000003"
        ),
        {},
        "was written at step 4; rename it back",
    ),
    "fewer steps": (lambda data: None, {"steps": 3}, "at least the 4 steps"),
    "no checkpoint": (
        lambda data: (data / "run" / "checkpoints" / "step_000004").rename(data / "away"),
        {},
        "found none and metrics up to step 4",
    ),
    "no evaluation before": (
        lambda data: (data / "run" / "evals.jsonl").unlink(),
        {},
        "must hold the evaluation before the first step of heldout",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_cannot_be_resumed_is_refused_before_anything_starts_or_changes(
    data: Path, name: str
) -> None:
    damage, tree, said = DAMAGE[name]
    module.run_grpo(config_of(data)).report_json.unlink()
    damage(data)
    before = snapshot(data)
    with pytest.raises(ResumeError, match=said):
        module.run_grpo(config_of(data, **tree))
    assert (snapshot(data), Stage.started) == (before, [0])


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_engines_that_do_not_start_leave_the_folder_as_it_was(
    data: Path, stage: type[Stage], failure: type[BaseException]
) -> None:
    stage.failure = failure
    with pytest.raises(failure):
        module.run_grpo(config_of(data))
    assert not (data / "run").exists()
    stage.failure = None
    module.run_grpo(config_of(data))
    before = snapshot(data)
    stage.failure = failure
    with pytest.raises(failure):
        module.run_grpo(config_of(data, steps=6, learner={"optimizer": {"lr": 0.5}}))
    assert snapshot(data) == before


def test_a_change_that_may_be_is_told_and_written_down(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = module.run_grpo(config_of(data))
    config = config_of(data, steps=6, learner={"optimizer": {"weight_decay": 0.5}})
    module.run_grpo(config)
    told = capsys.readouterr().err
    assert "changed on resume: steps: was 4, is 6" in told
    assert "changed on resume: learner.optimizer.weight_decay: was 0.0, is 0.5" in told
    assert run.config.read_text() == dump_config(config)


def test_a_second_process_is_refused(data: Path) -> None:
    with held(data / "run"), pytest.raises(ValueError, match="held by process"):
        module.run_grpo(config_of(data))
    assert Stage.started == []


def test_a_start_that_took_no_step_binds_nothing(data: Path, stage: type[Stage]) -> None:
    run = RunDir(data / "run")
    run.initial_model.mkdir(parents=True)  # killed while it was made, or of another seed
    run.config.write_text("seed: 7\n")
    module.run_grpo(config_of(data, seed=1))
    assert stage.started == [0]
    assert (run.initial_model / "model.safetensors").is_file()
