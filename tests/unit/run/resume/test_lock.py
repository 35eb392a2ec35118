"""One process in a run folder at a time, whatever happened to the one before."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from actors.generate import run_generate
from actors.grpo import run_grpo
from actors.sft import run_sft
from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.data.generate.config import GenerateConfig
from t2g_ray.run.folder import LOCK, RunDir
from t2g_ray.run.resume.lock import held

HOLD = """
import sys, time
from pathlib import Path
from t2g_ray.run.resume.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder_of(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder by now."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    process = holder_of(tmp_path / "run")
    try:
        with (
            pytest.raises(ValueError, match=rf"held by process {process.pid} on .* since") as found,
            held(tmp_path / "run"),
        ):
            pass
        assert "give another run_dir" in str(found.value)
    finally:
        process.kill()
        process.wait()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    process = holder_of(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / LOCK).exists()
    with held(tmp_path):
        pass


def test_the_same_process_cannot_enter_twice(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(ValueError, match="one process at a time"), held(tmp_path):
        pass


@pytest.mark.parametrize("failure", [None, RuntimeError, KeyboardInterrupt])
def test_the_folder_is_free_and_as_it_was_after_any_end(
    tmp_path: Path, failure: type[BaseException] | None
) -> None:
    for _ in range(2):
        try:
            with held(tmp_path / "run"):
                assert (tmp_path / "run" / LOCK).read_text().startswith(f"process {os.getpid()} ")
                if failure is not None:
                    raise failure
        except (RuntimeError, KeyboardInterrupt):
            pass
        assert list((tmp_path / "run").iterdir()) == []


def test_a_lock_makes_no_empty_folder_a_foreign_one(tmp_path: Path) -> None:
    with held(tmp_path):
        assert RunDir(tmp_path).prepare(resume=False) is False


def test_a_folder_that_is_removed_and_made_again_is_held_anew(tmp_path: Path) -> None:
    with held(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
        process = holder_of(tmp_path / "run")
    try:
        with pytest.raises(ValueError, match="one process at a time"), held(tmp_path / "run"):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_lock_that_was_removed_while_it_was_opened_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, path = fcntl.flock, tmp_path / LOCK
    taken: list[int] = []

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            path.unlink()  # the holder before ended just now
        taken.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with held(tmp_path):
        assert len(taken) == 2
        assert path.exists()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ValueError, match="file system with locks"), held(tmp_path):
        pass


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(ValueError, match="must be a folder, found a file"), held(path):
        pass


def start_of(stage: str, folder: Path) -> Callable[[], object]:
    tree: dict[str, object] = {"run_dir": str(folder), "resume": "auto"}
    if stage == "sft":
        return partial(run_sft, build_config(SftConfig, tree))
    if stage == "grpo":
        return partial(run_grpo, build_config(GrpoConfig, tree))
    teacher = {"run_dir": str(folder), "teacher": {"model": "embedded"}}
    return partial(run_generate, build_config(GenerateConfig, teacher))


@pytest.mark.parametrize("stage", ["sft", "grpo", "generate"])
def test_every_stage_holds_its_folder(tmp_path: Path, stage: str) -> None:
    start = start_of(stage, tmp_path)
    with held(tmp_path):
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(ValueError, match="one process at a time"):
            start()
        assert sorted(path.name for path in tmp_path.iterdir()) == before
