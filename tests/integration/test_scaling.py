"""Rollout actors that join and leave a run while it goes on.

The driver follows a request by `actors.stages.scaling`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from t2g_ray.cli.exits import INTERRUPTED
from t2g_ray.config import dump_config
from t2g_ray.run.checkpoint import find_checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from t2g_ray.run.scale_request import request_rollouts
from tests.integration.parts import grpo_config

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def live(
    wavering_model: Path, tmp_path: Path
) -> Iterator[tuple[RunDir, subprocess.Popen[bytes], Path]]:
    """A run with one rollout actor and steps without end."""
    run, file, log = RunDir(tmp_path / "run"), tmp_path / "grpo.yaml", tmp_path / "log"
    settings = grpo_config(
        run.path,
        wavering_model,
        steps=1_000_000,
        data={"heldout": "none"},
        learner={"optimizer": {"lr": 1e-6}},
        checkpoint={"every": 0},
    )
    file.write_text(dump_config(settings))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "t2g_ray.cli", "grpo", str(file)],
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    yield run, process, log
    process.kill()
    process.wait()


def wait_until(is_done: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + 200
    while not is_done():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def test_a_live_run_gets_another_rollout_actor_and_gives_it_back(
    live: tuple[RunDir, subprocess.Popen[bytes], Path],
) -> None:
    run, process, log = live
    wait_until(lambda: len(list(read_metrics(run.metrics))) >= 2, log)
    request_rollouts(run, 2, timeout_s=200)
    joined = len(list(read_metrics(run.metrics)))
    wait_until(lambda: len(list(read_metrics(run.metrics))) >= joined + 6, log)
    request_rollouts(run, 1, timeout_s=100)
    left = len(list(read_metrics(run.metrics)))
    wait_until(lambda: len(list(read_metrics(run.metrics))) >= left + 3, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=100) == INTERRUPTED, log.read_text()[-3000:]

    events = json.loads(run.trace.read_text())
    rows = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert ("rollout/1", "generate") in {
        (rows[e["pid"]], e["name"]) for e in events if e["ph"] == "X"
    }
    # Every prompt was trained once, and all tokens came from the weights that the learner had.
    positions = [p for line in read_json_lines(run.ledger) for p in line["positions"]]
    assert sorted(positions) == list(range(len(positions)))
    lines = read_metrics(run.metrics)
    assert all(float(line.get("mismatch/logprob_difference") or 0) < 1e-5 for line in lines)
    found = find_checkpoint(run.checkpoints)
    assert found is not None
    assert found.step == lines[-1]["step"]
