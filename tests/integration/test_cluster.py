"""A job on a cluster of two nodes: submitted from a clone, spread over both, stopped cleanly."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SMALL = [
    "prompts_per_step=4",
    "group_size=4",
    "data.train_records=64",
    "data.heldout_records=8",
    "sampling.max_new_tokens=24",
    "reward.preset=default",
    "model=embedded",
]

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Nodes:
    """A running cluster: where jobs are sent, and its two node processes."""

    jobs: str
    processes: tuple[subprocess.Popen[bytes], ...]

    def workers(self) -> list[str]:
        """Titles of the actors and drivers that run on the two nodes."""
        titles = []
        for process in self.processes:
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    titles.append(" ".join(child.cmdline())[:80])
        return [t for t in titles if t.startswith("ray::") and "IDLE" not in t and "Job" not in t]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    port, dashboard = _free_port(), _free_port()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.pop("RAY_ADDRESS", None)
    head = ["--head", f"--port={port}", f"--dashboard-port={dashboard}"]
    more = [f"--address=127.0.0.1:{port}"]
    processes = []
    for arguments in (head, more):
        command = [str(BIN / "ray"), "start", *arguments, "--num-cpus=2", "--block"]
        processes.append(
            subprocess.Popen(
                [*command, "--disable-usage-stats"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        _wait(lambda: _answers(dashboard), "the job API")
    yield Nodes(f"http://127.0.0.1:{dashboard}", tuple(processes))
    for process in reversed(processes):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()
    # `ray start` notes its address for later programs; killed, it leaves the note behind.
    note = Path("/tmp/ray/ray_current_cluster")
    if note.exists() and note.read_text().endswith(f":{port}"):
        note.unlink()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(is_done: Callable[[], object], what: str, timeout_s: float = 150) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "t2g-ray"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(folder)], check=True)
    # The working tree as it is now, so that what is tested is what is being written.
    listing = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    for name in listing.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def _submit(clone: Path, nodes: Nodes, *arguments: str) -> str:
    command = [str(BIN / "t2g"), "submit", "--address", nodes.jobs, "--no-wait", "--"]
    grpo = ["t2g", "grpo", "configs/demo_grpo.yaml", *SMALL, *arguments]
    done = subprocess.run([*command, *grpo], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("job ")[1].split()[0].rstrip(":")


def test_a_submitted_job_uses_both_nodes_and_leaves_a_complete_run_folder(
    nodes: Nodes, clone: Path, tmp_path: Path
) -> None:
    from ray.job_submission import JobSubmissionClient

    run = tmp_path / "run"
    job = _submit(clone, nodes, f"run_dir={run}", "steps=3")
    client = JobSubmissionClient(nodes.jobs)
    _wait(lambda: client.get_job_status(job).is_terminal(), "the job")

    assert client.get_job_status(job) == "SUCCEEDED", client.get_job_logs(job)[-3000:]
    report = json.loads((run / "report.json").read_text())
    assert report["steps"] == 3
    rollouts = {n for actor, n in report["placement"].items() if actor.startswith("rollout/")}
    assert len(rollouts) == 2
    for name in ("config.yaml", "metrics.jsonl", "samples.jsonl", "trace.json", "report.html"):
        assert (run / name).stat().st_size > 0
    assert (run / "model" / "model.safetensors").exists()


def test_a_stopped_job_leaves_a_valid_checkpoint_and_no_process(
    nodes: Nodes, clone: Path, tmp_path: Path
) -> None:
    from ray.job_submission import JobSubmissionClient

    from t2g_ray.checkpoint import find_checkpoint

    run = tmp_path / "run"
    job = _submit(clone, nodes, f"run_dir={run}", "steps=100000", "checkpoint.every=0")
    client = JobSubmissionClient(nodes.jobs)
    _wait(lambda: (run / "metrics.jsonl").exists(), "the first step")
    client.stop_job(job)
    _wait(lambda: client.get_job_status(job).is_terminal(), "the job to stop")

    found = find_checkpoint(run / "checkpoints")
    assert found is not None
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert found.step == json.loads(lines[-1])["step"]
    _wait(lambda: not nodes.workers(), "all actors to end", timeout_s=30)
