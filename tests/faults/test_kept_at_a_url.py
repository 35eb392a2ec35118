"""A run that is kept at a URL: killed, its machine lost, and gone on with bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray

from actors.grpo import run_grpo
from t2g_ray.config import dump_config
from t2g_ray.grpo.stages import LoopError
from t2g_ray.run.checkpoint import MARKER
from t2g_ray.run.folder import RunDir, checkpoint_name
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from t2g_ray.run.storage.place import stage_of
from t2g_ray.run.storage.remote import Remote
from tests.integration.parts import grpo_config, make_wavering_policy, write_policy

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 6
REPEATED = ("step", "loss", "grad_norm", "reward/mean", "tokens/generated", "entropy")
SETTINGS = {
    "steps": STEPS,
    "data": {"heldout": "none"},
    "checkpoint": {"every": 1, "keep": 2},
    "resume": "auto",
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("wavering") / "model", make_wavering_policy())


@pytest.fixture(scope="module")
def straight(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    """The same run in a folder, untouched."""
    yield run_grpo(grpo_config(tmp_path_factory.mktemp("straight") / "run", model, **SETTINGS))
    ray.shutdown()


def complete_at(remote: Remote, step: int) -> bool:
    return f"checkpoints/{checkpoint_name(step)}/{MARKER}" in remote.names("checkpoints")


def wait(is_done: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + 120
    while not is_done():
        assert time.monotonic() < end_s, f"waited for {what}"
        time.sleep(0.005)


def stopped_inside_an_upload(remote: Remote, process: subprocess.Popen[bytes]) -> int:
    """Stop the process while it uploads a checkpoint; returns its step."""
    for step in range(2, STEPS):
        folder = f"checkpoints/{checkpoint_name(step)}"
        wait(partial(remote.names, folder), "the upload of a checkpoint")
        process.send_signal(signal.SIGSTOP)
        if not complete_at(remote, step):
            return step
        process.send_signal(signal.SIGCONT)  # it was complete already
    pytest.fail("no upload took long enough to be interrupted")


def same(ours: RunDir, theirs: RunDir) -> None:
    """Both ended with the same bytes and took the same steps."""
    for ours_line, theirs_line in zip(
        read_metrics(ours.metrics), read_metrics(theirs.metrics), strict=True
    ):
        assert {k: ours_line[k] for k in REPEATED} == {k: theirs_line[k] for k in REPEATED}
    assert list(read_json_lines(ours.ledger)) == list(read_json_lines(theirs.ledger))
    weights = "model.safetensors"
    assert (ours.model / weights).read_bytes() == (theirs.model / weights).read_bytes()


def whole_at(url: str, run: RunDir) -> None:
    """The URL has all that the run left, and two checkpoints."""
    names = Remote(url).names()
    files = {"config.yaml", "metrics.jsonl", "samples.jsonl", "ledger.jsonl", "report.json"}
    assert {*files, "report.html", "trace.json", "model/model.safetensors"} <= names.keys()
    assert all((run.path / name).stat().st_size == names[name] for name in files)
    markers = [name for name in names if name.endswith(MARKER)]
    assert sorted(markers) == [
        f"checkpoints/{checkpoint_name(step)}/{MARKER}" for step in (STEPS - 1, STEPS)
    ]


def test_a_run_in_memory_goes_on_bit_for_bit_after_its_learner_was_killed(
    straight: RunDir, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2G_STAGE", str(tmp_path / "first machine"))
    url = f"memory:/{tmp_path}/run"
    remote = Remote(url)

    def kill_a_learner() -> None:
        wait(lambda: complete_at(remote, 2), "the checkpoint of step 2")
        learners = [
            child
            for child in psutil.Process().children(recursive=True)
            if "ray::LearnerActor" in " ".join(child.cmdline())
        ]
        learners[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_a_learner)
    killer.start()
    with pytest.raises(LoopError, match="learner/0"):
        run_grpo(grpo_config(url, model, **SETTINGS))
    killer.join()
    stage = stage_of(url)
    assert stage.is_relative_to(tmp_path / "first machine")
    shutil.rmtree(stage)

    monkeypatch.setenv("T2G_STAGE", str(tmp_path / "another machine"))
    run = run_grpo(grpo_config(url, model, **SETTINGS))
    assert run.path.is_relative_to(tmp_path / "another machine")
    (resumed,) = read_json_lines(run.resumes)
    assert 2 <= resumed["step"] < STEPS
    same(run, straight)
    whole_at(url, run)


@pytest.mark.long
def test_a_run_whose_whole_machine_was_killed_inside_an_upload_goes_on_on_another_bit_for_bit(
    straight: RunDir, model: Path, tmp_path: Path
) -> None:
    """T2G_TEST_URL: where to keep it, such as s3://bucket/folder."""
    url = f"{os.environ.get('T2G_TEST_URL', f'file://{tmp_path}')}/{uuid.uuid4().hex}"
    config = tmp_path / "grpo.yaml"
    ray_folder = tempfile.mkdtemp(prefix="t2g")

    def start(machine: str) -> subprocess.Popen[bytes]:
        """A process that has the stage, and what Ray leaves, to itself."""
        stage = tmp_path / machine
        environment = {**os.environ, "T2G_STAGE": str(stage), "RAY_TMPDIR": ray_folder}
        environment.pop("RAY_ADDRESS", None)
        config.write_text(dump_config(grpo_config(stage / "run", model, storage=url, **SETTINGS)))
        with (tmp_path / f"{machine}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "t2g_ray.cli", "grpo", str(config)],
                env={**environment, "PYTHONPATH": str(REPOSITORY)},
                cwd=tmp_path,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    remote = Remote(url)
    process = start("first")
    step = stopped_inside_an_upload(remote, process)
    members = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    assert not complete_at(remote, step), "it was killed before the marker"
    assert complete_at(remote, step - 1)
    shutil.rmtree(tmp_path / "first")

    second = start("second")
    assert second.wait() == 0, (tmp_path / "second.log").read_text()[-3000:]
    assert f"resumed at step {step - 1} " in (tmp_path / "second.log").read_text()
    run = RunDir(tmp_path / "second" / "run")
    same(run, straight)
    whole_at(url, run)
    shutil.rmtree(ray_folder, ignore_errors=True)
