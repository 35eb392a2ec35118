"""A real rank whose optimiser or activations are kept on the host, beside one that keeps them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from t2g_ray.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from tests.integration.test_learner import samples
from tests.ports import free_port

STEPS = 3
CHECKPOINTED: dict[str, Any] = {"gradient_checkpointing": True}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer, ZeRO-2": ({"zero_stage": 2}, "optimizer"),
    "optimizer, ZeRO-3": ({"zero_stage": 3}, "optimizer"),
    "optimizer, ZeRO-1, bf16": ({"zero_stage": 1, "dtype": "bfloat16"}, "optimizer"),
    "activations": (CHECKPOINTED, "activations"),
    "both, ZeRO-3, bf16": ({**CHECKPOINTED, "zero_stage": 3, "dtype": "bfloat16"}, "both"),
}


def run_rank(_: int, port: int, model: Path, out: Path) -> None:
    """What the spawned process does: every case with and without."""
    torch.set_num_threads(1)
    from t2g_ray.learner.learner import Learner, LearnerSpec
    from t2g_ray.learner.ranks import join_ranks

    join_ranks(rank=0, num_ranks=1, address="127.0.0.1", port=port, is_cpu=True)

    def run(fields: dict[str, Any], folder: Path | None) -> dict[str, Any]:
        def learner() -> Learner:
            # Without clipping: on the host the norm that it divides by is added up in another
            # order, and may differ in its last bit.
            optimizer = OptimizerConfig(lr=1e-3, weight_decay=0.1, max_grad_norm=1e9)
            return Learner(
                LearnerSpec(
                    model=str(model),
                    config=LearnerConfig(token_budget=256, optimizer=optimizer, **fields),
                    algorithm=AlgorithmConfig(),
                    temperature=0.9,
                    total_steps=10,
                    seed=0,
                )
            )

        own = learner()
        reports = [own.step(samples(), divisor=100) for _ in range(STEPS - 1)]
        if folder is not None:
            own.save(folder)
            restored = learner()
            restored.load(folder)
            again = restored.step(samples(), divisor=100)
        reports.append(own.step(samples(), divisor=100))
        return {
            "losses": [report.loss for report in reports],
            "norms": [report.grad_norm for report in reports],
            "weights": {name: tensor.clone() for name, tensor in own.named_tensors()},
            "again": None if folder is None else again.loss,
        }

    found = {
        name: (run(fields, None), run({**fields, "offload": offload}, out / name))
        for name, (fields, offload) in CASES.items()
    }
    torch.save(found, out / "found.pt")
    # All is written. Threads of torch.distributed may abort an interpreter that shuts down.
    os._exit(0)


@pytest.fixture(scope="module")
def found(tied_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("offload")
    multiprocessing.spawn(run_rank, (free_port(), tied_model, out))  # type: ignore[attr-defined, no-untyped-call]
    result: dict[str, Any] = torch.load(out / "found.pt", weights_only=False)
    return result


@pytest.mark.parametrize("name", CASES)
def test_losses_and_weights_are_the_same_bit_for_bit(found: dict[str, Any], name: str) -> None:
    plain, kept = found[name]
    assert kept["losses"] == plain["losses"]
    assert kept["norms"] == pytest.approx(plain["norms"], rel=1e-6)
    assert plain["losses"][0] != plain["losses"][-1]
    assert all(torch.equal(plain["weights"][key], kept["weights"][key]) for key in plain["weights"])


@pytest.mark.parametrize("name", CASES)
def test_a_restored_learner_goes_on_to_the_bit(found: dict[str, Any], name: str) -> None:
    kept = found[name][1]
    assert kept["again"] == kept["losses"][-1]
