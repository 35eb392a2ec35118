"""A dry run of configs/slurm.sh: Slurm is made up, its two nodes and the run are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from t2g_ray.run.checkpoint import find_checkpoint
from t2g_ray.run.folder import RunDir

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SRUN = """#!/bin/bash
# Runs a step here, whatever node it is for.
echo "srun $*" >> "$0.log"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames two-of-them" ] && printf 'localhost\\nlocalhost\\n'
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job that has two nodes."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "two-of-them",
        "SLURM_CPUS_PER_TASK": "2",
        "PATH": f"{programs}:{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **job}


def start(slurm: dict[str, str], run: RunDir, model: Path, *more: str) -> subprocess.Popen[str]:
    small = [
        *("reward.preset=default", "prompts_per_step=3", "group_size=4", "data.train_records=40"),
        *("data.heldout_records=4", "sampling.max_new_tokens=48", f"run_dir={run.path}"),
    ]
    program = [sys.executable, "-m", "t2g_ray.cli", "grpo", "configs/demo_grpo.yaml"]
    return subprocess.Popen(
        ["bash", "configs/slurm.sh", *program, f"model={model}", *small, *more],
        cwd=ROOT,
        env=slurm,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_over(job: str) -> list[str]:
    """Processes of Ray whose folder is the job's."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"/tmp/ray-{job}" in line:
            found.append(line)
    return found


def test_one_job_is_a_cluster_of_its_nodes_and_leaves_nothing_behind(
    slurm: dict[str, str], wavering_model: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    job = start(slurm, run, wavering_model, "steps=2")
    shown, _ = job.communicate(timeout=200)
    assert job.returncode == 0, shown[-3000:]
    report = json.loads(run.report_json.read_text())
    assert report["steps"] == 2
    assert len({report["placement"]["rollout/0"], report["placement"]["rollout/1"]}) == 2
    steps = (tmp_path / "bin" / "srun.log").read_text().splitlines()
    assert [" --head " in line for line in steps] == [True, False]
    assert left_over(slurm["SLURM_JOB_ID"]) == []


def test_the_signal_before_the_end_of_the_time_makes_a_checkpoint(
    slurm: dict[str, str], wavering_model: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    more = ("steps=100000", "checkpoint.every=0", "learner.optimizer.lr=1.0e-6")
    job = start(slurm, run, wavering_model, *more)
    end = time.monotonic() + 150
    while not (run.metrics.exists() and run.metrics.stat().st_size):
        assert time.monotonic() < end and job.poll() is None, "no first step"
        time.sleep(0.5)
    os.kill(job.pid, signal.SIGTERM)  # to the script alone, as `--signal=B:TERM` does
    shown, _ = job.communicate(timeout=100)
    assert job.returncode == 130, shown[-3000:]
    assert find_checkpoint(run.checkpoints) is not None
    assert left_over(slurm["SLURM_JOB_ID"]) == []
