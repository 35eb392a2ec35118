"""Run folders: who may write into one, and files that are whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2g_ray.run.folder import RunDir, checkpoint_name, write_json, write_text


def test_a_missing_folder_starts_a_new_run_also_with_resume(tmp_path: Path) -> None:
    for name, resume in (("a", False), ("b", True)):
        run_dir = RunDir(tmp_path / "runs" / name)
        assert run_dir.prepare(resume=resume) is False
        assert run_dir.path.is_dir()


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_folder_with_a_run_is_entered_only_to_resume(tmp_path: Path, is_finished: bool) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.config.write_text("seed: 1\n")
    if is_finished:
        run_dir.report_json.write_text("{}")
    state = "a finished run" if is_finished else "an unfinished run"
    with pytest.raises(ValueError, match=f"found {state}.*resume=auto"):
        run_dir.prepare(resume=False)
    assert run_dir.prepare(resume=True) is True


@pytest.mark.parametrize("resume", [False, True])
def test_a_foreign_folder_is_never_entered(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"empty or hold a run.*thesis\.tex"):
        RunDir(tmp_path).prepare(resume=resume)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(ValueError, match="must be a folder, found a file"):
        RunDir(path).prepare(resume=False)


def test_checkpoint_names_have_six_digits() -> None:
    assert checkpoint_name(12) == "step_000012"
    assert checkpoint_name(0) == "step_000000"
    run_dir = RunDir(Path("runs/demo"))
    assert run_dir.checkpoint(7) == Path("runs/demo/checkpoints/step_000007")
    with pytest.raises(ValueError, match="found -1"):
        checkpoint_name(-1)


def test_json_is_replaced_whole_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"seed": 1})
    write_json(path, {"seed": 2})
    assert json.loads(path.read_text()) == {"seed": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"seed": 1})
    with pytest.raises(ValueError):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text()) == {"seed": 1}


def test_text_is_written_in_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "caf\u00e9")
    assert (tmp_path / "a.txt").read_bytes() == b"caf\xc3\xa9"
