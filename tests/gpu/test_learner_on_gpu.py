"""A learner rank on a GPU: fused AdamW, ZeRO-3 read in parts, and what is kept on the host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from t2g_ray.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from tests.integration.parts import make_policy, write_policy
from tests.integration.test_learner import samples
from tests.ports import free_port

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU; none is visible here"
)
CHECKPOINTED: dict[str, Any] = {"gradient_checkpointing": True}
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "ZeRO-1": {"zero_stage": 1},
    "ZeRO-3": {"zero_stage": 3},
    "optimizer on the host": {"zero_stage": 2, "offload": "optimizer"},
    "activations on the host": {**CHECKPOINTED, "offload": "activations"},
    "both on the host, ZeRO-3": {**CHECKPOINTED, "zero_stage": 3, "offload": "both"},
}


def run_rank(_: int, port: int, model: Path, out: Path) -> None:
    """What the spawned process does: every case after the other, on the first GPU."""
    from t2g_ray.learner.learner import Learner, LearnerSpec
    from t2g_ray.learner.ranks import join_ranks

    join_ranks(rank=0, num_ranks=1, address="127.0.0.1", port=port, is_cpu=False)
    found: dict[str, Any] = {}
    for name, fields in CASES.items():
        optimizer = OptimizerConfig(lr=1e-3)
        learner = Learner(
            LearnerSpec(
                model=str(model),
                config=LearnerConfig(gpus=1, dtype="bfloat16", optimizer=optimizer, **fields),
                algorithm=AlgorithmConfig(kl_coef=0.1),
                temperature=0.9,
                total_steps=10,
                seed=0,
            )
        )
        buffers = {str(buffer.device) for buffer in learner.policy.buffers()}
        reports = [learner.step(samples(), divisor=100) for _ in range(3)]
        inner = learner.engine.basic_optimizer
        learner.export(out / name)
        found[name] = {
            "losses": [report.loss for report in reports],
            "fused": inner.defaults["fused"],
            "states": {str(state["exp_avg"].device) for state in inner.state.values()},
            "buffers": buffers,
        }
    torch.save(found, out / "found.pt")
    # All is written. Threads of torch.distributed may abort an interpreter that shuts down.
    os._exit(0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("learner")
    model = write_policy(out / "start", make_policy("tied"))
    multiprocessing.spawn(run_rank, (free_port(), model, out))  # type: ignore[attr-defined, no-untyped-call]
    result: dict[str, Any] = torch.load(out / "found.pt", weights_only=False)
    return result


@pytest.mark.parametrize("name", CASES)
def test_every_way_to_keep_memory_gives_the_losses_of_a_whole_learner(
    found: dict[str, Any], name: str
) -> None:
    assert found[name]["losses"] == pytest.approx(found["whole"]["losses"], rel=2e-2)
    assert found[name]["buffers"] == {"cuda:0"}


@pytest.mark.parametrize("name", CASES)
def test_adamw_is_one_kernel_where_its_states_are_on_the_gpu(
    found: dict[str, Any], name: str
) -> None:
    is_on_host = CASES[name].get("offload") in ("optimizer", "both")
    assert bool(found[name]["fused"]) != is_on_host
    assert found[name]["states"] == ({"cpu"} if is_on_host else {"cuda:0"})
