"""Learners that leave their device and come back, on the real DeepSpeed: each step is the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from t2g_ray.config import AlgorithmConfig, LearnerConfig, LoraConfig, OptimizerConfig
from tests.integration.test_learner import samples
from tests.ports import free_port

CASES = [
    *((stage, dtype, 0) for stage in (0, 1, 2, 3) for dtype in ("float32", "bfloat16")),
    (3, "float32", 4),
]
"""ZeRO stage, precision, rank of the adapters."""


def run(rank: int, port: int, model: Path, out: Path) -> None:
    """What a spawned process does: each case with and without leaving, results to a file."""
    torch.set_num_threads(1)
    from t2g_ray.learner.learner import Learner, LearnerSpec
    from t2g_ray.learner.ranks import join_ranks
    from t2g_ray.learner.turns.taking import LearnerTurns

    join_ranks(rank=rank, num_ranks=1, address="127.0.0.1", port=port, is_cpu=True)

    def learner_of(stage: Any, dtype: Any, lora_rank: int) -> Learner:
        config = LearnerConfig(
            zero_stage=stage,
            dtype=dtype,
            token_budget=256,
            lora=LoraConfig(rank=lora_rank),
            optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.1),
        )
        return Learner(
            LearnerSpec(
                model=str(model),
                config=config,
                algorithm=AlgorithmConfig(kl_coef=0.1),
                temperature=1.0,
                total_steps=10,
                seed=0,
            )
        )

    def weights(learner: Learner) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in learner.named_tensors()}

    for case in CASES:
        stays, leaves = learner_of(*case), learner_of(*case)
        turns, found = LearnerTurns(leaves), dict[str, Any]()
        turns.rehearse(prompt_tokens=64, new_tokens=64)
        for step in range(2):
            stays.step(samples(), divisor=100.0)
            if step:
                turns.come_back()
            leaves.step(samples(), divisor=100.0)
            turns.leave()
        found["parked"] = turns._parking.num_bytes
        found["empty"] = [t.untyped_storage().nbytes() for t in turns._parking.tensors]
        found["trained"] = sum(p.numel() for p in leaves.policy.parameters() if p.requires_grad)
        if case[0] == 3:
            found["trained"] = sum(
                p.ds_numel for p in leaves.policy.parameters() if p.requires_grad
            )
        found["weights"] = weights(stays), weights(leaves)
        try:
            turns.check_there("a step")
        except RuntimeError as error:
            found["refused"] = str(error)
        folder = out / str(CASES.index(case))
        turns.save(folder / "state")
        restored = learner_of(*case)
        restored.load(folder / "state")
        again = LearnerTurns(restored)
        again.leave()
        again.come_back()
        turns.come_back()
        for learner in (stays, leaves, restored):
            learner.step(samples(), divisor=100.0)
        found["next weights"] = [weights(learner) for learner in (stays, leaves, restored)]
        torch.save(found, folder / "found.pt")
    # Threads of torch.distributed may abort an interpreter that shuts down.
    os._exit(0)


@pytest.fixture(scope="module")
def folder(tied_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("turns")
    multiprocessing.spawn(run, (free_port(), tied_model, out), nprocs=1)  # type: ignore[attr-defined, no-untyped-call]
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda case: "ZeRO-{} {} rank {}".format(*case))
def test_a_step_after_leaving_and_coming_back_is_the_same_bit_for_bit(
    folder: Path, case: tuple[int, str, int]
) -> None:
    found = torch.load(folder / str(CASES.index(case)) / "found.pt", weights_only=False)
    # Two moments in fp32, and master weights where the policy is not itself in fp32 and whole.
    states = 8 if case[0] == 0 and case[1] == "float32" else 12
    # The reference policy of the KL; with adapters it is the policy without them.
    states += 0 if case[2] else 4 if case[1] == "float32" else 2
    assert found["parked"] >= states * found["trained"]
    # No buckets of a size that has nothing to do with the policy's.
    assert found["parked"] <= 64 * found["trained"] + 2**20
    assert found["empty"]
    assert not any(found["empty"])
    stayed, left = found["weights"]
    assert all(torch.equal(stayed[name], left[name]) for name in stayed)
    stayed, left, restored = found["next weights"]
    for name, tensor in stayed.items():
        assert torch.equal(tensor, left[name]), name
        assert torch.equal(tensor, restored[name]), f"{name}, from a checkpoint of a parked state"
    assert not all(torch.equal(stayed[name], found["weights"][0][name]) for name in stayed)
    assert "found its optimiser's states away" in found["refused"]
