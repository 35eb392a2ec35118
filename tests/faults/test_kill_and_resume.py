"""Runs killed with SIGKILL and resumed end with the very weights of a run that nobody touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from t2g_ray.config import dump_config
from t2g_ray.report.status.status import read_status
from t2g_ray.run.checkpoint import discard_after, find_checkpoint, temporary_path
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from tests.integration.parts import grpo_config, make_wavering_policy, write_policy

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 8
RECORDS = 12
"""An epoch of four steps: the second one begins with step 5."""
REPEATED = ("step", "loss", "grad_norm", "reward/mean", "tokens/generated", "entropy")


class Command:
    """`t2g grpo` as a process with a working directory of its own, by which its tree is known."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.run = RunDir(folder / "run")
        self.folder = folder / "here"
        self.folder.mkdir()
        self.log = folder / "log"
        self._config = folder / "grpo.yaml"
        self._started_s = 0.0
        settings = grpo_config(
            self.run.path,
            model,
            steps=STEPS,
            data={"train_records": RECORDS, "heldout": "none"},
            checkpoint={"every": 1, "keep": 4},
            resume="auto",
        )
        self._config.write_text(dump_config(settings))

    def start(self) -> subprocess.Popen[bytes]:
        self._started_s = time.time() - 1  # the system's clock ticks, so it may be a little early
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "t2g_ray.cli", "grpo", str(self._config)],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self) -> None:
        process = self.start()
        assert process.wait(timeout=240) == 0, self.log.read_text()[-3000:]

    def tree(self) -> list[psutil.Process]:
        """The drivers, their Ray and all actors, whoever their parents are by now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def newest_tree(self) -> list[psutil.Process]:
        """What belongs to the last start."""
        return self._where(lambda member: member.create_time() >= self._started_s)

    def actors(self) -> list[psutil.Process]:
        return self._where(lambda member: "Actor" in "".join(member.cmdline()))

    def _where(self, is_meant: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
        found = []
        for member in self.tree():
            with suppress(psutil.NoSuchProcess):
                if is_meant(member):
                    found.append(member)
        return found

    def kill(self, process: subprocess.Popen[bytes], *, only_driver: bool = False) -> None:
        """Kill the driver and, unless all others shall end by themselves, them too."""
        process.send_signal(signal.SIGSTOP)  # it goes no further while the others are looked for
        tree = self.newest_tree()
        assert any("RolloutActor" in "".join(member.cmdline()) for member in tree)
        process.kill()
        for member in [] if only_driver else tree:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()
        # Agents of Ray look for its head for a minute before they end by themselves; the end of
        # the test waits for them.
        is_over = self.actors if only_driver else self.newest_tree
        self.wait(lambda: not is_over(), "the whole tree to end", every_s=0.1)

    def wait(self, is_done: Callable[[], object], what: str, every_s: float = 0.002) -> None:
        deadline = time.monotonic() + 200
        while not is_done():
            log = self.log.read_text()[-2000:] if time.monotonic() > deadline else ""
            assert time.monotonic() < deadline, f"waited for {what}: {log}"
            time.sleep(every_s)

    def kill_after(self, step: int, *, only_driver: bool = False) -> None:
        """Kill the run when this step's checkpoint is the newest."""
        process = self.start()
        self.wait(lambda: self.run.checkpoint(step).exists(), f"checkpoint {step}")
        assert read_status(self.run.path).state == "live"
        self.kill(process, only_driver=only_driver)
        status = read_status(self.run.path)
        assert status.state == "dead"
        assert f"process {process.pid} " in status.reason
        assert status.checkpoint is not None and status.checkpoint.step >= step
        discard_after(self.run.checkpoints, step)  # should the kill have come too late
        assert self.newest() == step

    def kill_inside_a_checkpoint(self, first: int) -> int:
        """Kill everything while a checkpoint is being written; returns its step."""
        process = self.start()
        self.wait(lambda: self.run.checkpoint(first - 1).exists(), f"checkpoint {first - 1}")
        for step in range(first, STEPS):
            partial = temporary_path(self.run.checkpoint(step))
            self.wait(partial.exists, f"the writing of checkpoint {step}", every_s=0.0005)
            process.send_signal(signal.SIGSTOP)
            if partial.exists():
                self.kill(process)
                assert partial.exists()
                return step
            process.send_signal(signal.SIGCONT)  # it was whole already
        pytest.fail("no checkpoint took long enough to be interrupted")

    def newest(self) -> int:
        found = find_checkpoint(self.run.checkpoints)
        assert found is not None
        return found.step


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("wavering") / "model", make_wavering_policy())


@pytest.fixture(scope="module", autouse=True)
def sessions() -> Iterator[None]:
    """A folder for what killed clusters leave: logs. pytest's is too long for a socket's name."""
    folder = tempfile.mkdtemp(prefix="t2g")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # a failed test left them
                if process.environ().get("RAY_TMPDIR") == folder:
                    process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_run_that_was_killed_three_times_ends_like_one_that_was_not(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "straight").mkdir()
    (tmp_path / "killed").mkdir()
    straight = Command(tmp_path / "straight", model)
    straight.finish()

    killed = Command(tmp_path / "killed", model)
    killed.kill_after(1, only_driver=True)
    # Interrupted at step 5, the run goes back to 4, which is the end of an epoch.
    step = killed.kill_inside_a_checkpoint(first=5)
    assert killed.newest() == step - 1
    killed.kill_after(7)
    assert f"resumed at step {step - 1} " in killed.log.read_text()
    killed.finish()
    assert "resumed at step 7 " in killed.log.read_text()
    assert read_status(killed.run.path).state == "finished"

    ours, theirs = killed.run, straight.run
    assert list(read_json_lines(ours.ledger)) == list(read_json_lines(theirs.ledger))
    positions = [p for line in read_json_lines(ours.ledger) for p in line["positions"]]
    assert sorted(positions) == list(range(len(positions)))  # a step without signal takes more
    for ours_line, theirs_line in zip(
        read_metrics(ours.metrics), read_metrics(theirs.metrics), strict=True
    ):
        assert {k: ours_line[k] for k in REPEATED} == {k: theirs_line[k] for k in REPEATED}
    assert list(read_json_lines(ours.samples)) == list(read_json_lines(theirs.samples))
    times = [line["time_s"] for line in read_metrics(ours.metrics)]
    assert times == sorted(times)
    weights = "model.safetensors"
    assert (ours.model / weights).read_bytes() == (theirs.model / weights).read_bytes()
    assert not list(ours.checkpoints.glob(".*"))
    both = (killed, straight)
    killed.wait(lambda: not any(run.tree() for run in both), "all processes to end", every_s=0.1)
