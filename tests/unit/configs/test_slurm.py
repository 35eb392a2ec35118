"""configs/slurm.sh: clean bash, and the devices that the configuration uses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.cluster.devices import Node
from tests.unit.configs.parts import ROOT, shellcheck, slots_of_all

SCRIPT = (ROOT / "configs" / "slurm.sh").read_text()


def asked(option: str) -> int:
    """The value of an #SBATCH line."""
    found = re.search(rf"^#SBATCH --{option}=(\d+)$", SCRIPT, flags=re.MULTILINE)
    assert found is not None, option
    return int(found[1])


def test_the_linter_finds_nothing() -> None:
    assert shellcheck(SCRIPT) == ""
    assert "SC2086" in shellcheck(SCRIPT.replace('"$@" --block', "$@ --block $address"))


def test_the_nodes_that_are_asked_for_hold_the_configuration_and_nothing_is_left() -> None:
    resources = {
        "CPU": float(asked("cpus-per-task")),
        "GPU": float(asked("gpus-per-node")),
    }
    nodes = [Node(f"node{i}", resources) for i in range(asked("nodes"))]
    of_learners = [slot for slot in slots_of_all(nodes) if slot.holders[0].role == "learner"]
    assert len({slot.node for slot in of_learners}) == 1


def test_without_a_command_nothing_is_started() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "configs" / "slurm.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "needs a command, such as: t2g grpo" in done.stderr


PROGRAMS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "scontrol": "printf 'localhost\\nlocalhost\\n'",
    "ray": 'echo "$$ $*" >> "$NOTES"; exec sleep 60',
}
RAY = """
import os
def init(**options): pass
def shutdown(): pass
def nodes(): return [{"Alive": True} for line in open(os.environ["NOTES"])]
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of two nodes, in which Slurm and Ray are made up."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "ray.py").write_text(RAY)
    (tmp_path / "notes").touch()
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
        "NOTES": str(tmp_path / "notes"),
        "SLURM_JOB_ID": "20007",
        "SLURM_JOB_NODELIST": "two",
        "SLURM_CPUS_PER_TASK": "3",
    }


def nodes_of(slurm: dict[str, str]) -> list[list[str]]:
    """Process id and arguments of each node that was started."""
    return [line.split() for line in Path(slurm["NOTES"]).read_text().splitlines()]


def lives(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_command_sees_the_cluster_and_its_exit_code_is_the_jobs(slurm: dict[str, str]) -> None:
    command = ["bash", "-c", 'echo "$RAY_ADDRESS" "${#RAY_AUTH_TOKEN}" "$1"; exit 7', "x", "a b"]
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "slurm.sh", *command],
        env=slurm,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "127.0.0.1:20007 64 a b\n"), done.stderr
    head, worker = sorted(nodes_of(slurm), key=lambda node: "--head" not in node)
    assert {"--head", "--port=20007", "--num-cpus=3", "--block"} <= set(head)
    assert {"--address=127.0.0.1:20007", "--num-cpus=3", "--block"} <= set(worker)
    assert not lives(head[0]) and not lives(worker[0])


ENDING = """
import signal, sys, time
def end(*_):
    time.sleep(0.5)
    print("checkpoint", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
print("runs", flush=True)
# A signal that comes just before one long sleep would be looked at after it.
for _ in range(600):
    time.sleep(0.1)
"""


def test_the_signal_before_the_end_reaches_the_run_which_is_waited_for(
    slurm: dict[str, str],
) -> None:
    job = subprocess.Popen(
        ["bash", "-c", SCRIPT, "slurm.sh", sys.executable, "-c", ENDING],
        env=slurm,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "runs\n"
    os.kill(job.pid, signal.SIGTERM)
    assert job.stdout.read() == "checkpoint\n"
    assert job.wait(timeout=10) == 130
    assert not any(lives(node[0]) for node in nodes_of(slurm))


def test_a_node_that_does_not_come_ends_the_job_with_what_is_missing(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "ray.py").write_text(RAY.replace("options): pass", "options): clock()") + CLOCK)
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "slurm.sh", "echo", "runs"],
        env=slurm,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "all 2 nodes must join within 300 s, found 1" in done.stderr
    assert done.stdout == ""


CLOCK = """
import time
def clock():
    now = time.monotonic() + 400
    time.monotonic = lambda: now
def nodes(): return [{"Alive": True}]
"""
