"""A run that chooses how many rollout actors it has, while its learner is slowed and released."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from t2g_ray.cli.exits import INTERRUPTED
from t2g_ray.config import dump_config
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.scale_request import Answer, Bounds, read_answer, request_auto, request_off
from tests.integration.parts import grpo_config

REPOSITORY = Path(__file__).resolve().parents[2]
BOUNDS = Bounds(1, 2, cool_down_s=2)

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


class Live:
    """`t2g grpo` on a configuration, in a process of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.run, self.log = RunDir(folder / "run"), folder / "log"
        self.file = folder / "grpo.yaml"
        settings = grpo_config(
            self.run.path,
            model,
            steps=1_000_000,
            max_staleness=1,
            resume="auto",
            data={"heldout": "none"},
            learner={"optimizer": {"lr": 1e-6}},
            checkpoint={"every": 0},
            # One group at a time, so that a second engine halves the time of a step.
            prompts_per_step=8,
            rollout={"max_sequences": 4, "draft_tokens": 0},
        )
        self.file.write_text(dump_config(settings))
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "t2g_ray.cli", "grpo", str(self.file)],
                cwd=REPOSITORY,
                env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        """As Ctrl-C does: with a checkpoint."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=100) == INTERRUPTED, self.log.read_text()[-3000:]

    def answer(self) -> Answer:
        return read_answer(self.run.rollouts_json) or Answer(rollouts=0)

    def wait_until(self, is_done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not is_done():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def learners(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in children if "".join(one.cmdline()).startswith("ray::LearnerActor")]


@pytest.fixture
def live(wavering_model: Path, tmp_path: Path) -> Iterator[Live]:
    found = Live(tmp_path, wavering_model)
    yield found
    found.process.kill()
    found.process.wait()


@contextmanager
def slowed(processes: list[psutil.Process]) -> Iterator[None]:
    """The processes stand still for most of the time, as on a device that others use too."""
    is_over = threading.Event()

    def stop_and_go() -> None:
        while not is_over.wait(0.02):
            for signal_, pause_s in ((signal.SIGSTOP, 0.4), (signal.SIGCONT, 0.0)):
                for process in processes:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal_)
                time.sleep(pause_s)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def scalings(run: RunDir) -> list[tuple[str, str]]:
    """Name and reason of each change in the trace."""
    events = json.loads(run.trace.read_text())
    rows = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    spans = [e for e in events if e["ph"] == "X" and rows[e["pid"]] == "scaling"]
    return [(span["name"], span["args"]["reason"]) for span in spans]


def test_actors_follow_a_learner_that_is_slowed_and_released_and_no_group_is_lost(
    live: Live,
) -> None:
    run = live.run
    live.wait_until(lambda: run.metrics.exists() and run.metrics.stat().st_size)
    request_auto(run, BOUNDS, timeout_s=60)
    live.wait_until(lambda: live.answer().rollouts == 2)
    with slowed(live.learners()):
        live.wait_until(lambda: live.answer().rollouts == 1)
    change = live.answer().change
    assert "2 -> 1 rollout actors: samplers write" in change
    live.stop()
    live.start()  # with the one actor of its configuration, and the request that still stands
    live.wait_until(lambda: live.answer().rollouts == 2)
    assert live.answer().auto == BOUNDS
    assert request_off(run, timeout_s=60) == 2
    steps = len(run.metrics.read_text().splitlines())
    live.wait_until(lambda: len(run.metrics.read_text().splitlines()) >= steps + 3)
    live.stop()

    changes = scalings(run)
    assert [name.removesuffix(" rollout actors") for name, _ in changes] == [
        "1 -> 2",
        "2 -> 1",
        "1 -> 2",
    ]
    assert all("the learner waits" in reason for name, reason in changes if name[0] == "1")
    assert live.answer().auto is None
    # Every prompt was trained once, and all tokens came from weights that the learner had.
    positions = [p for line in read_json_lines(run.ledger) for p in line["positions"]]
    assert sorted(positions) == list(range(len(positions)))
    lines = list(read_json_lines(run.metrics))
    assert all(line["staleness/max"] <= 1 for line in lines)
    assert {line["rollout/actors"] for line in lines} == {1, 2}
