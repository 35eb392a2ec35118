"""Two real ranks in bf16, at every ZeRO stage, beside the same ranks in fp32."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from t2g_ray.config import LearnerConfig, OptimizerConfig
from t2g_ray.learner.deepspeed_rank import RankSpec
from t2g_ray.types import Example
from tests.integration.test_learner import share_of
from tests.ports import free_port

RANKS, STEPS = 2, 20
STAGES = (0, 1, 2, 3)
WHOLE, EIGHTH = 4096, 64
"""Tokens of a micro-batch: all samples of a rank, or about an eighth of them."""


@dataclass(frozen=True)
class Found:
    """What a rank saw at one stage in one precision."""

    losses: list[float]
    """Of each of the steps."""
    first_move: float
    """Median distance of a weight from its start after one step, in learning rates."""
    norms: tuple[float, float]
    """Of the gradient from few micro-batches, and from many."""
    num_micros: tuple[int, int]


def run_rank(rank: int, port: int, model: Path, out: Path) -> None:
    """What a spawned process does."""
    torch.set_num_threads(1)
    from t2g_ray.learner.batching import collate
    from t2g_ray.learner.ranks import join_ranks
    from t2g_ray.sft.learner import _FILLER, SftLearner

    join_ranks(rank=rank, num_ranks=RANKS, address="127.0.0.1", port=port, is_cpu=True)
    examples = [
        Example(group=i, prompt_ids=sample.prompt_ids, completion_ids=sample.completion_ids)
        for i, sample in enumerate(share_of(rank, RANKS))
    ]
    count = torch.tensor([sum(len(example.completion_ids) for example in examples)])
    torch.distributed.all_reduce(count)

    def learner_of(dtype: Any, stage: Any, *, lr: float, budget: int = WHOLE) -> SftLearner:
        config = LearnerConfig(
            ranks=RANKS,
            zero_stage=stage,
            dtype=dtype,
            token_budget=budget,
            optimizer=OptimizerConfig(lr=lr, max_grad_norm=1e9),
        )
        return SftLearner(RankSpec(model=str(model), config=config, total_steps=STEPS, seed=0))

    def step(learner: SftLearner) -> Any:
        return learner.step(examples, num_tokens=int(count))

    def found_of(dtype: str, stage: int) -> Found:
        learner = learner_of(dtype, stage, lr=1e-3)
        losses = [step(learner).loss for _ in range(STEPS)]
        fast = learner_of(dtype, stage, lr=0.05)
        before = {name: tensor.clone() for name, tensor in fast.named_tensors()}
        norm = step(fast).grad_norm
        moved = [
            float((tensor.float() - before[name].float()).abs().median()) / 0.05
            for name, tensor in fast.named_tensors()
            if "_proj" in name
        ]
        slow = learner_of(dtype, stage, lr=0.05, budget=EIGHTH)
        nums = [len(each.micro_batches(examples, collate, _FILLER)) for each in (fast, slow)]
        return Found(losses, median(moved), (norm, step(slow).grad_norm), (nums[0], nums[1]))

    found = {("float32", 0): found_of("float32", 0)}
    found |= {("bfloat16", stage): found_of("bfloat16", stage) for stage in STAGES}
    if rank == 0:
        torch.save(found, out / "found.pt")
    torch.distributed.barrier()
    # All is written. Threads of torch.distributed may abort an interpreter that shuts down.
    os._exit(0)


@pytest.fixture(scope="module")
def found(
    tied_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], Found]:
    out = tmp_path_factory.mktemp("bf16")
    multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
        run_rank, (free_port(), tied_model, out), nprocs=RANKS
    )
    result: dict[tuple[str, int], Found] = torch.load(out / "found.pt", weights_only=False)
    return result


@pytest.mark.parametrize("stage", STAGES)
def test_losses_over_twenty_steps_are_those_of_fp32(
    found: dict[tuple[str, int], Found], stage: int
) -> None:
    exact, losses = found["float32", 0].losses, found["bfloat16", stage].losses
    assert len(losses) == STEPS
    assert exact[-1] < 0.8 * exact[0]
    assert losses == pytest.approx(exact, rel=2e-2)


@pytest.mark.parametrize("stage", STAGES)
def test_eight_micro_batches_give_the_gradient_of_one(
    found: dict[tuple[str, int], Found], stage: int
) -> None:
    once, often = found["bfloat16", stage].norms
    few, many = found["bfloat16", stage].num_micros
    assert few == 1 and many >= 8
    assert often == pytest.approx(once, rel=1e-3)
    assert once == pytest.approx(found["float32", 0].norms[0], rel=2e-2)


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_step_is_corrected_as_the_first(
    found: dict[tuple[str, int], Found], stage: int
) -> None:
    # Adam's first step moves a weight by the learning rate, its second by a quarter less.
    assert found["float32", 0].first_move == pytest.approx(1, rel=1e-3)
    assert found["bfloat16", stage].first_move == pytest.approx(1, rel=2e-2)
