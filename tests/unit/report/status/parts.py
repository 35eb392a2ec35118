"""Folders of runs as they are found: made by hand, file by file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

GRPO = {"steps": 100, "prompts_per_step": 4, "rollout": {"actors": 2}}


def line(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "time_s": 2.0 * step,
        "reward/mean": 0.01 * step,
        "f1/entities": 0.5,
        "f1/relations": 0.25,
        "throughput/tokens_per_s": 1000.0,
        "staleness/mean": 0.5,
        "staleness/max": 1,
        "idle/learner": 0.6,
        "idle/samplers": 0.1,
        "groups/grader_errors": 0,
        **more,
    }


def make_run(folder: Path, settings: dict[str, Any], lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"run_dir": str(folder), **settings}))
    rows = "".join(json.dumps(row) + "\n" for row in lines)
    if lines:
        (folder / "metrics.jsonl").write_text(rows)
    return folder


def leave_lock(folder: Path, process: int, host: str = "") -> None:
    host = host or platform.node()
    name = f"process {process} on {host} since 2026-05-01 10:00:00 (t2g grpo demo.yaml)"
    (folder / ".lock").write_text(name)


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the folder as a run does; it is killed at the end at the latest."""
    code = (
        "import sys, time; from pathlib import Path; from t2g_ray.run.resume.lock import held\n"
        "with held(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def number_of_an_ended_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def digest(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files of a folder, with what lies in them and when it was written."""
    return {
        str(path): (os.stat(path).st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }
