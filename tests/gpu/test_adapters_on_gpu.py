"""Adapters as versions on a GPU, where vLLM's own kernels multiply with the slots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.integration.parts import grpo_config, make_policy, spec_of, write_policy

pytest.importorskip("peft")
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU; none is visible here"
)


def test_versions_of_adapters_are_proved_under_the_gpus_kernels(tmp_path: Path) -> None:
    """Not yet run on a GPU."""
    from t2g_ray.rollout.adapters import AdapterSlots
    from t2g_ray.rollout.engine import GenerationEngine
    from tests.integration.test_adapters import (
        LORA,
        SAMPLING,
        adapted,
        alone,
        differences,
        frozen,
        generate,
        packed,
        prompts_of,
    )

    model = write_policy(tmp_path / "model", make_policy("tied"))
    spec = replace(spec_of(model, dtype="bfloat16"), gpus=1.0, gpu_memory_utilization=0.3)
    engine = GenerationEngine(replace(spec, adapters=AdapterSlots(lora=LORA, number=3)))
    try:
        for version in range(4):
            policy = adapted(version)
            sent = (frozen(policy) if version == 0 else {}) | alone(policy)
            half = {k: v if "sketch" in k else v.bfloat16() for k, v in sent.items()}
            engine.load(*packed(half, version), verify=True)
            groups = generate(engine, prompts_of(4, 40), SAMPLING)
            assert differences(policy, groups, 1.0).mean() < 0.05
    finally:
        engine.close()


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_a_run_trains_with_every_adapter_verified(tmp_path: Path, max_staleness: int) -> None:
    """Not yet run on a GPU."""
    from actors.grpo import run_grpo
    from t2g_ray.run.metrics import read_metrics

    run = run_grpo(
        grpo_config(
            tmp_path / "run",
            write_policy(tmp_path / "model", make_policy("tied")),
            steps=6,
            max_staleness=max_staleness,
            colocate="share",
            data={"heldout": "none"},
            rollout={"gpus": 0.5, "dtype": "bfloat16", "gpu_memory_utilization": 0.3},
            learner={
                "gpus": 0.5,
                "dtype": "bfloat16",
                "lora": {"rank": 16, "sync": "adapter"},
            },
            sync={"transport": "ipc", "verify_every": 1},
        )
    )
    assert [line["step"] for line in read_metrics(run.metrics)] == list(range(1, 7))
