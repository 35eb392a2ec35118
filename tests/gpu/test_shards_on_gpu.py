"""What only GPUs can show: experts on a device, and layers that are spread over two.

Not yet run on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from t2g_ray.rollout.spec import Sampling
from t2g_ray.weights.manifest import WeightSyncError
from tests.integration.parts import differences, disturb, generate, make_policy, prompts_of

SAMPLING = Sampling(group_size=2, temperature=1.0, max_new_tokens=16)


def halve_norm_of_last(worker: Any) -> None:
    """One rank loses the values of a tensor after its load."""
    from t2g_ray.vllm_private.worker import worker_model

    if int(worker.rank) == int(worker.parallel_config.world_size) - 1:
        worker_model(worker).get_parameter("model.norm.weight").data.mul_(0.5)


def check_shards(folder: Path, kind: Any, ranks: int) -> None:
    """Two proven versions agree with transformers, and a spoilt shard is named."""
    from t2g_ray.rollout.engine import GenerationEngine
    from tests.integration.parts import pack, spec_of, write_policy

    policy = make_policy(kind).bfloat16()
    spec = replace(
        spec_of(write_policy(folder / kind, policy), dtype="bfloat16"),
        gpus=ranks,
        tensor_parallel=ranks,
        gpu_memory_utilization=0.3,
    )
    engine = GenerationEngine(spec)
    try:
        for version in range(2):
            manifest, buckets = pack(disturb(policy, seed=version, scale=0.05), version)
            engine.load(manifest, buckets, verify=True)
            groups = generate(engine, prompts_of(4, 30), SAMPLING)
            assert differences(policy, groups, 1.0).mean() < 0.05
        engine._call(halve_norm_of_last)
        with pytest.raises(WeightSyncError, match=r"tensor model\.norm\.weight"):
            engine.verify(manifest)
    finally:
        engine.close()


def test_experts_on_one_gpu_are_proven(tmp_path: Path) -> None:
    check_shards(tmp_path, "moe", 1)


@pytest.mark.parametrize("kind", ["tied", "untied", "moe"])
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_shards_on_two_gpus_are_proven(tmp_path: Path, kind: str) -> None:
    check_shards(tmp_path, kind, 2)
