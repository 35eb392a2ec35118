"""Weights that never leave their device: whole runs, every sync of which is verified.

Not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

from benchmarks.selftest.settings import REWARD
from tests.integration.parts import grpo_config, make_policy, write_policy


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize("max_staleness", [0, 1])
@pytest.mark.parametrize(
    ("transport", "share"),
    [
        ("store", 0.5),
        ("ipc", 0.5),
        pytest.param(
            "broadcast",
            1,
            marks=pytest.mark.skipif(
                torch.cuda.device_count() < 2, reason="NCCL needs a GPU for each process"
            ),
        ),
    ],
)
def test_a_run_trains_with_every_sync_verified(
    tmp_path: Path, transport: str, share: float, max_staleness: int
) -> None:
    from actors.grpo import run_grpo
    from t2g_ray.run.metrics import read_metrics

    run = run_grpo(
        grpo_config(
            tmp_path / "run",
            write_policy(tmp_path / "model", make_policy("tied")),
            steps=6,
            max_staleness=max_staleness,
            colocate="off" if share == 1 else "share",
            data={"heldout": "none"},
            reward={"custom": [{"path": REWARD}]},  # an untrained policy earns nothing else
            rollout={"gpus": share, "gpu_memory_utilization": 0.3},
            learner={"gpus": share},
            sync={"transport": transport, "verify_every": 1, "bucket_mib": 0.25},
        )
    )
    lines = read_metrics(run.metrics)
    assert len(lines) == 6
    assert all(line["sync/verified"] == 1 for line in lines)
    assert all(line["groups/trained"] == 3 for line in lines)
