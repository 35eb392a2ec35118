"""Actors on real devices: each sees its own, and a peer that is killed ends in an error.

Not yet run on a GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from actors.cluster import start as module
from actors.cluster.handles import Handle, get_all
from actors.cluster.start import start_cluster
from actors.sft import run_sft
from t2g_ray.config import GrpoConfig, SftConfig, build_config, load_config
from t2g_ray.run.metrics import read_metrics
from tests.integration.light_actors import Light
from tests.ports import free_port

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
needs_two = pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason="NCCL needs a GPU for each process"
)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Seeing(Light):
    """Says which devices torch finds."""

    def found(self) -> list[str]:
        import torch

        number = torch.cuda.device_count()
        return [str(torch.cuda.get_device_properties(i).uuid) for i in range(number)]


def test_a_pair_finds_one_device_and_a_reward_actor_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LearnerActor", Seeing)
    monkeypatch.setattr(module, "RolloutActor", Seeing)
    monkeypatch.setattr(module, "reward_actor_class", lambda: ray.remote(Seeing))
    pairs = torch.cuda.device_count()
    (tmp_path / "config.json").write_text("{}")  # which is all that a model has here
    config = build_config(
        GrpoConfig,
        {
            "run_dir": str(tmp_path),
            "model": str(tmp_path),
            "colocate": "share",
            "learner": {"ranks": pairs, "gpus": 0.5},
            "rollout": {"actors": pairs, "gpus": 0.5},
        },
    )
    started = start_cluster(config, config.model, "none")
    handles: list[Handle[Any]] = [*started.learners, *started.fleet, *started.rewards]
    try:
        found = get_all([handle.call(Seeing.found) for handle in handles])
    finally:
        started.close()
    assert found[:pairs] == found[pairs : 2 * pairs]
    assert len({device for (device,) in found[:pairs]}) == pairs
    assert found[2 * pairs :] == [[]]


END = """
import os, sys, torch
from t2g_ray.weights.channels import Link, Rendezvous, flat_buckets
port, rank = map(int, sys.argv[1:])
there = Rendezvous(address="127.0.0.1", port=port, size=2, timeout_s=20)
device = torch.device("cuda")
link = Link(there, rank=rank, device=device)
def once():
    tensors = [("w", torch.ones(1000, device=device))]
    buckets = flat_buckets(tensors, bucket_bytes=4000, is_proven=False)
    return list(link.send(buckets) if rank == 0 else link.receive())
once()
print("met", flush=True)
sys.stdin.readline()
try:
    once()
except RuntimeError as error:
    print("raised", type(error).__name__, flush=True)
"""


def end_of_link(port: int, rank: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", END, str(port), str(rank)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": str(rank)},
    )


@needs_two
@pytest.mark.parametrize("survivor", [0, 1])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_peer_that_is_dead_or_stuck_raises_in_the_other_process(survivor: int, end: int) -> None:
    port = free_port()
    ends = [end_of_link(port, rank) for rank in range(2)]
    try:
        for one in ends:
            assert one.stdout is not None
            assert one.stdout.readline() == "met\n"
        ends[1 - survivor].send_signal(end)
        began = time.monotonic()
        told, _ = ends[survivor].communicate("\n", timeout=60)
    finally:
        for one in ends:
            one.kill()
    # The watchdog of NCCL's default group would have ended the process without a word.
    assert told == "raised DistBackendError\n"
    assert ends[survivor].returncode == 0
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=needs_two)])
def test_the_supervised_stage_reduces_on_both_kinds_of_device(tmp_path: Path, ranks: int) -> None:
    config = load_config(
        SftConfig,
        CONFIGS / "demo_sft.yaml",
        [
            f"run_dir={tmp_path / 'run'}",
            "device=cuda",
            f"learner.ranks={ranks}",
            "data.train_records=200",
            "steps=4",
            "eval.every=0",
            "learner.optimizer.warmup_steps=1",
        ],
    )
    assert len(read_metrics(run_sft(config).metrics)) == 4
