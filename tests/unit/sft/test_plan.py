"""What a run of SFT will do, settled before any process starts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.config import SftConfig, build_config
from t2g_ray.records.corpus import generate_records
from t2g_ray.records.jsonl import write_records
from t2g_ray.run.checkpoint import write_checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.resume.meaning import ResumeError
from t2g_ray.sft.plan import SftPlan, num_steps, plan_sft


def config_of(run_dir: Path, **tree: Any) -> SftConfig:
    data = {"train_records": 8, **tree.pop("data", {})}
    return build_config(SftConfig, {"run_dir": str(run_dir), "data": data, **tree})


def test_steps_are_given_or_follow_from_epochs(tmp_path: Path) -> None:
    assert num_steps(config_of(tmp_path, steps=7), 100) == 7
    assert num_steps(config_of(tmp_path, epochs=2.5, batch_size=16), 100) == 16


def test_a_plan_enters_a_new_folder_with_its_configuration(tmp_path: Path) -> None:
    plan = plan_sft(config_of(tmp_path / "run"))
    assert (plan.is_new, plan.start, len(plan.records)) == (True, None, 8)
    assert RunDir(tmp_path / "run").config.exists()
    with pytest.raises(ValueError, match="run_dir must be empty for a new run"):
        plan_sft(config_of(tmp_path / "run"))


def save(plan: SftPlan, *steps: int, total_steps: int = 20) -> None:
    run = RunDir(plan.config.run_dir)
    for step in steps:
        state = {
            "step": step,
            "time_s": 1.0,
            "total_steps": total_steps,
            "meaning": plan.meaning.state(),
        }
        write_checkpoint(run.checkpoint(step), lambda folder: None, state)
    run.metrics.write_text("".join(f'{{"step": {step}}}\n' for step in range(1, max(steps) + 1)))


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_resumed_plan_starts_at_the_newest_whole_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, resume="auto")
    save(plan_sft(config), 5, 10)
    (RunDir(tmp_path).checkpoint(10) / "COMPLETE").unlink()
    resumed = plan_sft(config)
    assert resumed.start is not None
    assert (resumed.is_new, resumed.start.step, resumed.is_finished) == (False, 5, False)
    assert "step_000010 is not whole: COMPLETE is missing" in capsys.readouterr().err
    assert not RunDir(tmp_path).checkpoint(10).exists()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Twelve training records, and as many held out, in files."""
    for part in ("train", "heldout"):
        write_records(tmp_path / f"{part}.jsonl", generate_records(part, 12, seed=0))
    return tmp_path


def resumable(files: Path, **tree: Any) -> SftConfig:
    data = {
        "train": str(files / "train.jsonl"),
        "heldout": str(files / "heldout.jsonl"),
        "train_records": None,
    }
    tree = {"eval": {"every": 5}, **tree, "data": {**data, **tree.get("data", {})}}
    return config_of(files / "run", resume="auto", **tree)


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


EDITS: dict[str, Callable[[list[str]], list[str]]] = {
    "grown": lambda lines: [*lines, lines[0].replace('"text": "', '"text": "So, ')],
    "cut": lambda lines: lines[:-1],
    "reordered": lambda lines: [lines[1], lines[0], *lines[2:]],
    "turned round": lambda lines: lines[::-1],
    "one text": lambda lines: [lines[0].replace('"text": "', '"text": "So, ', 1), *lines[1:]],
    "one type": lambda lines: [lines[0].replace("person", "persons"), *lines[1:]],
    "no relation": lambda lines: [
        json.dumps(record | {"graph": record["graph"] | {"relations": []}})
        for record in map(json.loads, lines)
    ],
}


@pytest.mark.parametrize("part", ["train", "heldout"])
@pytest.mark.parametrize("name", EDITS)
def test_records_that_are_not_as_they_were_are_refused_by_name(
    files: Path, part: str, name: str
) -> None:
    save(plan_sft(resumable(files)), 5)
    edit(files / f"{part}.jsonl", EDITS[name])
    before = snapshot(files)
    what = {"train": "training records", "heldout": "heldout records"}[part]
    with pytest.raises(ResumeError, match=rf"{what}: was 12 records, digest \w+, is 1[123] rec"):
        plan_sft(resumable(files))
    assert snapshot(files) == before


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"batch_size": 4}, "batch_size: was 16, is 4"),
        ({"seed": 1}, "seed: was 0, is 1"),
        ({"data": {"seed": 1}}, "data.seed: was None, is 1"),
        ({"prompt": {"style": "compact"}}, "prompt.style: was full, is compact"),
        ({"learner": {"lora": {"rank": 4}}}, "learner.lora.rank: was 0, is 4"),
        ({"learner": {"zero_stage": 2}}, "learner.zero_stage: was 0, is 2"),
        ({"learner": {"dtype": "bfloat16"}}, "learner.dtype: was float32, is bfloat16"),
        ({"learner": {"optimizer": {"beta2": 0.9}}}, "learner.optimizer.beta2: was 0.99, is 0.9"),
        ({"eval": {"every": 0}}, "heldout records: was 12 records"),
        ({"data": {"heldout": "embedded"}}, "heldout records: was 12 records"),
    ],
)
def test_a_setting_that_decides_the_result_is_refused_by_name(
    files: Path, change: dict[str, Any], line: str
) -> None:
    save(plan_sft(resumable(files)), 5)
    before = snapshot(files)
    with pytest.raises(ResumeError, match=re.escape(line)):
        plan_sft(resumable(files, **change))
    assert snapshot(files) == before


def test_files_may_move_and_the_learning_rate_may_change(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(plan_sft(resumable(files)), 5)
    (files / "train.jsonl").rename(files / "moved.jsonl")
    config = resumable(
        files,
        data={"train": str(files / "moved.jsonl")},
        learner={"optimizer": {"lr": 0.5, "weight_decay": 0.25}},
    )
    assert plan_sft(config).start is not None
    told = capsys.readouterr().err
    assert "data.train: was" in told
    assert "learner.optimizer.lr: was 1e-06, is 0.5" in told
    assert "learner.optimizer.weight_decay: was 0.0, is 0.25" in told
    assert "weight_decay: 0.25" in RunDir(files / "run").config.read_text()


def test_a_finished_run_is_left_as_it_is(files: Path) -> None:
    config = resumable(files)
    save(plan_sft(config), 20)
    run = RunDir(files / "run")
    assert not plan_sft(config).is_finished  # it has no model yet
    run.model.mkdir()
    (run.model / "config.json").write_text("{}")
    before = snapshot(files)
    assert plan_sft(resumable(files, learner={"optimizer": {"lr": 0.5}})).is_finished
    assert snapshot(files) == before
    assert not plan_sft(resumable(files, steps=40)).is_finished


def test_a_start_that_took_no_step_binds_nothing(tmp_path: Path) -> None:
    plan_sft(config_of(tmp_path, resume="auto"))
    weights = RunDir(tmp_path).initial_model / "model.safetensors"
    first = weights.read_bytes()
    again = plan_sft(config_of(tmp_path, resume="auto", seed=1, batch_size=4))
    assert (again.is_new, again.start) == (False, None)
    assert weights.read_bytes() != first


def test_a_new_folder_is_empty_again_after_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a model must be"):
        plan_sft(config_of(tmp_path / "run", model="./nothing"))
    assert not (tmp_path / "run").exists()
