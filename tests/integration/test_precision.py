"""A real DeepSpeed rank in bf16: gradients of many micro-batches, a resume, and adapters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from t2g_ray.config import AlgorithmConfig, LearnerConfig, LoraConfig, OptimizerConfig
from t2g_ray.learner.batching import PolicyBatch, collate_policy
from tests.integration.test_learner import samples
from tests.ports import free_port

TIMES = 64
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "muon": {"optimizer": OptimizerConfig(name="muon", lr=1e-3)},
    "ZeRO-1": {"zero_stage": 1},
    "ZeRO-2": {"zero_stage": 2},
    "ZeRO-3": {"zero_stage": 3},
    "adapters": {"lora": LoraConfig(rank=4)},
    "adapters, ZeRO-3": {"lora": LoraConfig(rank=4), "zero_stage": 3},
}


def run_rank(_: int, port: int, model: Path, out: Path) -> None:
    """What the spawned process does: every case after the other."""
    torch.set_num_threads(1)
    from t2g_ray.learner.learner import Learner, LearnerSpec
    from t2g_ray.learner.ranks import join_ranks

    join_ranks(rank=0, num_ranks=1, address="127.0.0.1", port=port, is_cpu=True)

    def learner_of(case: dict[str, Any]) -> Learner:
        fields = {"dtype": "bfloat16", "optimizer": OptimizerConfig(lr=1e-6), **case}
        return Learner(
            LearnerSpec(
                model=str(model),
                config=LearnerConfig(**fields),
                algorithm=AlgorithmConfig(),
                temperature=0.9,
                sampler_dtype="float32",
                total_steps=10,
                seed=0,
            )
        )

    def norm_of(case: dict[str, Any], times: int) -> float:
        learner = learner_of(case)
        micro = collate_policy(samples(), is_packed=learner.is_packed)
        learner.start_step()

        def loss_of(index: int, micro: PolicyBatch, weight: float) -> torch.Tensor:
            logprobs, _ = learner.engine(micro, 0.9)
            return (logprobs * micro.advantages).sum()

        return learner.update([(micro, 1.0)] * times, loss_of, divisor=float(times))

    found: dict[str, Any] = {}
    for name, case in CASES.items():
        learner, again = learner_of(case), learner_of(case)
        before = {tensor: value.clone() for tensor, value, _ in learner.changed_tensors()}
        learner.step(samples(), divisor=100)
        learner.save(out / name)
        again.load(out / name)
        for each in (learner, again):
            each.step(samples(), divisor=100)
        sent = dict(learner.sampler_tensors(2))
        exact = list(learner.changed_tensors())
        changes = [
            (sent[tensor].double() - before[tensor].double(), change.double())
            for tensor, _, change in exact
            if change is not None
        ]
        found[name] = {
            "norms": (norm_of(case, 1), norm_of(case, TIMES)),
            "is same": all(
                torch.equal(value, dict(again.named_tensors())[tensor])
                for tensor, value in learner.named_tensors()
            ),
            "kept": [float((a * b).sum() / b.square().sum()) for a, b in changes],
        }
        if name == "adapters":
            learner.export(out / "model")
    torch.save(found, out / "found.pt")
    # All is written. Threads of torch.distributed may abort an interpreter that shuts down.
    os._exit(0)


@pytest.fixture(scope="module")
def found(tied_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("precision")
    multiprocessing.spawn(run_rank, (free_port(), tied_model, out))  # type: ignore[attr-defined, no-untyped-call]
    result: dict[str, Any] = torch.load(out / "found.pt", weights_only=False)
    result["folder"] = out
    return result


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_many_equal_micro_batches_is_that_of_one(
    found: dict[str, Any], case: str
) -> None:
    # Added up in bf16, it is about 1 % off.
    once, often = found[case]["norms"]
    assert often == pytest.approx(once, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_restored_learner_goes_on_to_the_bit(found: dict[str, Any], case: str) -> None:
    assert found[case]["is same"]


@pytest.mark.parametrize("case", ["adapters", "adapters, ZeRO-3"])
def test_samplers_in_fp32_get_all_that_adapters_learned_at_a_low_rate(
    found: dict[str, Any], case: str
) -> None:
    kept = found[case]["kept"]
    assert len(kept) > 0
    assert kept == pytest.approx([1.0] * len(kept), abs=1e-2)


def test_a_model_with_adapters_is_exported_in_fp32(found: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM

    exported = AutoModelForCausalLM.from_pretrained(found["folder"] / "model", dtype="auto")
    assert {parameter.dtype for parameter in exported.parameters()} == {torch.float32}
