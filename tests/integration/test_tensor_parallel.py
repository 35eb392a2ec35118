"""Runs whose engines spread their layers over two processes, on the real stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from actors.grpo import run_grpo
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import Sampling
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import read_metrics
from tests.integration.parts import differences, generate, grpo_config, prompts_of, spec_of

STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=6, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run(folder: Path, model: Path, ranks: int, transport: str = "store", **tree: Any) -> RunDir:
    config = grpo_config(
        folder,
        model,
        steps=STEPS,
        rollout={"tensor_parallel": ranks},
        sync={"transport": transport, "bucket_mib": 0.125, "verify_every": 1},
        data={"heldout": "none"},
        checkpoint={"every": STEPS},
        **tree,
    )
    return run_grpo(config)


def assert_alike(one: RunDir, other: RunDir) -> None:
    """Every sync was proven, rewards differ in groups, and losses and weights are the same."""
    lines = [read_metrics(done.metrics) for done in (one, other)]
    assert [len(of_run) for of_run in lines] == [STEPS, STEPS]
    assert all(line["sync/verified"] for of_run in lines for line in of_run)
    assert any(line["grad_norm"] for line in lines[0])
    for key in ("loss", "grad_norm", "reward/mean", "tokens/trained"):
        first, second = ([line[key] for line in of_run] for of_run in lines)
        assert second == pytest.approx(first, rel=1e-4, abs=1e-6), key
    before, after = (load_file(done.model / "model.safetensors") for done in (one, other))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.allclose(tensor, after[name], atol=1e-4), name


def test_two_processes_train_a_dense_policy_like_one(wavering_model: Path, tmp_path: Path) -> None:
    alone = run(tmp_path / "one", wavering_model, 1)
    assert_alike(alone, run(tmp_path / "two", wavering_model, 2))


@pytest.mark.long
def test_two_processes_train_experts_like_one(wavering_moe_model: Path, tmp_path: Path) -> None:
    alone = run(tmp_path / "one", wavering_moe_model, 1)
    assert_alike(alone, run(tmp_path / "two", wavering_moe_model, 2))
    # The exported policy is one that others read.
    policy = AutoModelForCausalLM.from_pretrained(alone.model)
    engine = GenerationEngine(replace(spec_of(alone.model), load_weights=True))
    try:
        sampling = Sampling(group_size=2, temperature=1.0, max_new_tokens=16)
        groups = generate(engine, prompts_of(2, 20), sampling)
        assert differences(policy, groups, 1.0).mean() < 1e-5
    finally:
        engine.close()


@pytest.mark.long
@pytest.mark.parametrize("transport", ["broadcast", "ipc"])
def test_shards_arrive_whichever_way_weights_come(
    wavering_moe_model: Path, tmp_path: Path, transport: str
) -> None:
    alone = run(tmp_path / "one", wavering_moe_model, 1)
    assert_alike(alone, run(tmp_path / "two", wavering_moe_model, 2, transport))
