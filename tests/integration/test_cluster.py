"""Jobs on a cluster of two nodes: submitted from a clone, spread over both, stopped cleanly.

What is secret on the submitting machine is nowhere on the cluster.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from t2g_ray.run.checkpoint import find_checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from tests.integration.relay import Relay
from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SMALL = [
    "prompts_per_step=3",
    "group_size=4",
    "data.train_records=40",
    "data.heldout_records=4",
    "sampling.max_new_tokens=48",
]
ACTORS = ("ray::RolloutActor", "ray::RewardActor", "ray::LearnerActor")

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Nodes:
    """A running cluster: its API of jobs, the `ray start` process of each node, and its files."""

    api: httpx.Client
    processes: list[subprocess.Popen[bytes]]
    folder: Path

    def count(self) -> int:
        """Living nodes; 0 as long as the API does not answer."""
        try:
            answer = self.api.get("/api/v0/nodes")
        except httpx.TransportError:
            return 0
        found = answer.json()["data"]["result"]["result"] if answer.is_success else []
        return sum(node["state"] == "ALIVE" for node in found)

    def job(self, job: str) -> dict[str, str]:
        """Status and message of a job."""
        found: dict[str, str] = self.api.get(f"/api/jobs/{job}").json()
        return found

    def below(self) -> list[psutil.Process]:
        """All processes that the nodes started."""
        starters = [psutil.Process(process.pid) for process in self.processes]
        return [child for starter in starters for child in starter.children(recursive=True)]

    def commands(self) -> list[str]:
        """Actors on the nodes, and drivers of jobs."""
        found = []
        for process in self.below():
            with suppress(psutil.NoSuchProcess):
                found.append(" ".join(process.cmdline()))
        return [line for line in found if line.startswith(ACTORS) or "t2g grpo" in line]


def wait_until(is_done: Callable[[], object], what: str, timeout_s: float = 150) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head and a second node, both on this machine and with the folder that Ray gives them."""
    port, dashboard = free_port(), free_port()
    folder = tempfile.mkdtemp(prefix="t2g")  # pytest's own is too long for the name of a socket
    head = ["--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"]
    second = [f"--address=127.0.0.1:{port}"]
    token = secrets.token_hex(32)
    headers = {"Authorization": f"Bearer {token}"}
    client = httpx.Client(base_url=f"http://127.0.0.1:{dashboard}", headers=headers, timeout=30)
    cluster = Nodes(client, [], Path(folder))
    with pytest.MonkeyPatch.context() as patch:
        # Whoever reaches a job API can run code, so this one asks for a token.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", token)
        patch.setenv("PATH", str(BIN), prepend=os.pathsep)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv("PYTHONPATH", raising=False)
        try:
            for number, arguments in enumerate((head, second), start=1):
                cluster.processes.append(start_node(arguments))
                wait_until(lambda n=number: cluster.count() == n, f"node {number}")
            yield cluster
        finally:
            for process in cluster.below():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            for starter in cluster.processes:
                starter.kill()
                starter.wait()
            client.close()
            shutil.rmtree(folder, ignore_errors=True)


def start_node(arguments: list[str]) -> subprocess.Popen[bytes]:
    # The agent's port is one number for all clusters of a machine, unless it may choose.
    more = ["--num-cpus=2", "--dashboard-agent-listen-port=0", "--disable-usage-stats", "--block"]
    return subprocess.Popen(
        [str(BIN / "ray"), "start", *arguments, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the files of the working tree, so that what is written now is what is run."""
    folder = tmp_path_factory.mktemp("clone") / "t2g-ray"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(folder)], check=True)
    listing = ["git", "ls-files"]
    tracked = subprocess.run(listing, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    for name in tracked.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def submit(
    clone: Path, nodes: Nodes, command: list[str], *options: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`t2g submit`, whose default is to follow the job to its end."""
    address = ["--address", str(nodes.api.base_url)]
    return t2g(clone, ["submit", *address, *options, "--", *command], **variables)


def t2g(folder: Path, arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "t2g_ray.cli", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def grpo(*arguments: str) -> list[str]:
    # The wavering policy's rewards differ in their json part alone.
    small = [*SMALL, "reward.preset=default"]
    return ["t2g", "grpo", "configs/demo_grpo.yaml", *small, *arguments]


def job_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.split("job ")[1].split(":")[0]


def test_a_job_that_fails_is_followed_to_its_end_and_fails_the_command(
    nodes: Nodes, clone: Path
) -> None:
    done = submit(clone, nodes, ["sh", "-c", "echo first; echo second >&2; exit 3"])
    assert done.returncode == 1
    assert nodes.job(job_of(done))["status"] == "FAILED"
    assert "first" in done.stdout
    assert "second" in done.stdout
    assert f"job {job_of(done)} ended as FAILED; its log is above" in done.stderr


COUNTING = "for number in $(seq 20); do echo line $number.; sleep 0.2; done"


def test_a_log_goes_on_after_the_connection_was_cut(nodes: Nodes, clone: Path) -> None:
    port = nodes.api.base_url.port
    assert port is not None
    seen: list[str] = []
    with Relay(port) as relay:
        following = subprocess.Popen(
            [
                *(sys.executable, "-m", "t2g_ray.cli", "submit"),
                *("--address", f"http://127.0.0.1:{relay.port}", "--", "sh", "-c", COUNTING),
            ],
            cwd=clone,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert following.stdout is not None and following.stderr is not None
        for line in following.stdout:
            seen.append(line.strip())
            if line.strip() in ("line 5.", "line 12."):
                relay.cut(seconds=1)
        told = following.stderr.read()
        assert following.wait(timeout=60) == 0, told
    counted = [line for line in seen if line.startswith("line ")]
    assert counted == [f"line {number}." for number in range(1, 21)]
    assert told.count("broke; the job goes on, trying again") == 2


HASHED = """
import hashlib, os, ray
ray.init(logging_level="ERROR")
value = ray.get(ray.remote(lambda: os.environ["T2G_PLANTED_TOKEN"]).remote())
print("digest", hashlib.sha256(value.encode()).hexdigest())
"""


def test_a_secret_is_read_from_its_file_by_the_processes_of_the_nodes(
    nodes: Nodes, clone: Path, tmp_path: Path
) -> None:
    value = secrets.token_hex(16)
    (tmp_path / "secret").write_text(value)
    place = ["--secret", f"T2G_PLANTED_TOKEN={tmp_path}/secret"]
    done = submit(clone, nodes, ["python", "-c", HASHED], *place)
    assert f"digest {hashlib.sha256(value.encode()).hexdigest()}" in done.stdout, done.stdout


def test_a_tracked_file_of_secrets_sends_nothing(nodes: Nodes, clone: Path) -> None:
    before = len(nodes.api.get("/api/jobs/").json())
    (clone / ".env").write_text("T2G_PLANTED_TOKEN=" + secrets.token_hex(16))
    subprocess.run(["git", "add", "-f", ".env"], cwd=clone, check=True)
    try:
        done = submit(clone, nodes, ["t2g", "doctor"])
    finally:
        subprocess.run(["git", "rm", "-q", "-f", ".env"], cwd=clone, check=True)
    assert done.returncode == 2
    assert "a tracked file must hold no secret, found .env" in done.stderr
    assert len(nodes.api.get("/api/jobs/").json()) == before


def files_with(planted: dict[str, str], *folders: Path) -> dict[str, list[str]]:
    """Name of each secret -> the files that its value stands in."""
    found: dict[str, list[str]] = {}
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            for name, value in planted.items():
                if value.encode() in content:
                    found.setdefault(name, []).append(str(path))
    return found


def test_a_submitted_job_uses_both_nodes_and_leaves_a_complete_run_folder_without_secrets(
    nodes: Nodes, clone: Path, wavering_model: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    names = ("HF_TOKEN", "WANDB_API_KEY", "MY_PASSWORD", "T2G_OF_ENV", "T2G_OF_FILE")
    planted = {name: f"planted{secrets.token_hex(16)}" for name in names}
    (clone / ".env").write_text(f"T2G_OF_ENV={planted['T2G_OF_ENV']}\n")  # git does not track it
    (tmp_path / "secret").write_text(planted["T2G_OF_FILE"])
    command = grpo(f"run_dir={run.path}", f"model={wavering_model}", "steps=3")
    place = ["--secret", f"T2G_OF_FILE={tmp_path}/secret"]
    here = {name: planted[name] for name in names[:3]}
    done = submit(clone, nodes, command, *place, **here)
    (clone / ".env").unlink()

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert nodes.job(job_of(done))["status"] == "SUCCEEDED"
    assert str(run.path) in done.stdout, "the log of the job was shown"
    report = json.loads(run.report_json.read_text())
    assert report["steps"] == 3
    placement = report["placement"]
    assert len(set(placement.values())) == 2
    assert len(placement) == 5
    for path in (run.config, run.metrics, run.samples, run.ledger, run.trace, run.report_html):
        assert path.stat().st_size > 0, path
    assert (run.model / "model.safetensors").is_file()
    assert find_checkpoint(run.checkpoints) is not None

    assert files_with(planted, nodes.folder, run.path) == {}
    shown = nodes.api.get("/api/jobs/").text + done.stdout + done.stderr
    assert [name for name, value in planted.items() if value in shown] == []
    assert "HF_TOKEN, WANDB_API_KEY stayed here" in done.stdout
    assert files_with({"a word of the log": "Running entrypoint for job"}, nodes.folder)
    assert files_with({"a tracked file": "## From zero on AWS"}, nodes.folder)


@pytest.mark.long
def test_a_sweep_is_a_job_as_well_and_leaves_its_files_in_its_folder(
    nodes: Nodes, clone: Path, wavering_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    settings = [*SMALL, "reward.preset=default", "max_staleness=1", "learner.ranks=1"]
    command = ["t2g", "bench", "sweep", "--rollouts", "1,2", "--steps", "3"]
    places = [f"run_dir={folder}", f"model={wavering_model}"]
    done = submit(clone, nodes, [*command, "configs/demo_grpo.yaml", *settings, *places])

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert nodes.job(job_of(done))["status"] == "SUCCEEDED"
    assert "Rollout actors pay up to" in done.stdout
    medians = {
        row["metric"]: row["median"]
        for row in json.loads((folder / "sweep.json").read_text())["rows"]
    }
    assert medians["tokens_per_s/1"] > 0
    assert medians["tokens_per_s/2"] > 0
    assert (folder / "sweep.html").stat().st_size > 0
    wait_until(lambda: not nodes.commands(), "all processes of the sweep to end", timeout_s=30)


def test_a_stopped_job_leaves_a_checkpoint_of_its_last_step_and_no_process(
    nodes: Nodes, clone: Path, wavering_model: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    more = ["steps=100000", "checkpoint.every=0", "learner.optimizer.lr=1.0e-6"]
    command = grpo(f"run_dir={run.path}", f"model={wavering_model}", *more)
    sent = submit(clone, nodes, command, "--no-follow", "--job", "to-be-stopped")
    assert sent.returncode == 0, sent.stderr
    job = job_of(sent)
    wait_until(lambda: run.metrics.exists() and run.metrics.stat().st_size, "the first step")
    assert len(nodes.commands()) >= 6
    assert job == "to-be-stopped"
    address = ["--address", str(nodes.api.base_url)]
    assert t2g(clone, ["job", "list", *address]).stdout.startswith("to-be-stopped  RUNNING")
    stopped = t2g(clone, ["job", "stop", job, *address])
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "job to-be-stopped ended as STOPPED" in stopped.stdout
    assert "Running entrypoint" not in stopped.stdout, "the log from before the stop was shown"
    assert nodes.job(job)["status"] == "STOPPED"
    assert "STOPPED" in t2g(clone, ["job", "status", job, *address]).stdout
    assert "Running entrypoint" in t2g(clone, ["job", "logs", job, *address]).stdout
    found = find_checkpoint(run.checkpoints)
    assert found is not None
    assert found.step == list(read_json_lines(run.metrics))[-1]["step"]
    wait_until(lambda: not nodes.commands(), "all processes of the run to end", timeout_s=30)
