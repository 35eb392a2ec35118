"""The comparison with another commit: its files are there for a while, and the sides take turns."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import against_commit
from benchmarks.quality.against_commit import checked_out, run
from benchmarks.result import ROOT


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    return subprocess.check_output(["git", *identity, *arguments], cwd=folder, text=True)


def test_a_commit_is_checked_out_for_a_while_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("old")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    (tmp_path / "file").write_text("new")
    monkeypatch.chdir(tmp_path)
    with checked_out("HEAD") as tree:
        assert (tree / "file").read_text() == "old"
    assert not tree.exists()
    assert len(git(tmp_path, "worktree", "list").splitlines()) == 1


def test_both_sides_run_their_own_code_in_turn_and_warm_up_steps_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[tuple[str, str]] = []

    def train(command: Sequence[Any], *, cwd: Path, env: dict[str, str], check: bool) -> None:
        assert env["PYTHONPATH"] == str(cwd) and check
        stage = command[3]
        sides.append((stage, cwd.name))
        run_dir = Path(next(part for part in command if part.startswith("run_dir="))[8:])
        run_dir.mkdir()
        step_s = 0.5 if cwd == ROOT else 1.0
        # The first step takes a minute; steps 3 to 8 are what counts.
        lines = [{"step": n, "time_s": 60 + n * step_s} for n in range(1, 9)]
        (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    class Tree:
        def __enter__(self) -> Path:
            return tmp_path

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(against_commit, "checked_out", lambda commit: Tree())
    monkeypatch.setattr(against_commit.subprocess, "run", train)
    rows = run("abc", runs=2, steps={"sft": 8, "grpo": 8}, model="m")
    # Each is first once.
    assert sides == [
        (stage, name)
        for stage in ("sft", "grpo")
        for name in (tmp_path.name, ROOT.name, ROOT.name, tmp_path.name)
    ]
    medians = {row.metric: row.median for row in rows}
    assert medians["grpo_s_per_step/abc"] == pytest.approx(1.0)
    assert medians["sft_s_per_step/here"] == pytest.approx(0.5)
    assert medians["grpo_here_over_commit"] == pytest.approx(0.5)
