"""Device and written settings -> the settings that follow from the device.

The one place that says what a GPU changes. A default that a field has itself is the one for CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from t2g_ray.run.device.gpus import visible_gpus
from t2g_ray.run.device.installed import Device

Settings = Mapping[str, object]
"""Dotted keys and their values, as {"learner.gpus": 1}."""

ON_CUDA: Settings = {
    # What attention kernels take; with fp32 the learner would fall back to slow ones.
    "learner.dtype": "bfloat16",
    "rollout.dtype": "bfloat16",
    # Activations are most of a learner's memory; computing them twice costs a third of a step.
    "learner.gradient_checkpointing": True,
    # The gradient of the vocabulary matrix costs traffic once a chunk of logits.
    "learner.head_chunk_mib": 512,
    # A pass of a GPU takes as long for a few sequences as for many: what lies between the sizes
    # that vLLM itself takes for cards below and above 70 GiB.
    "rollout.max_sequences": 512,
    "rollout.pass_tokens": 8192,
}

STALE_PASS_TOKENS = 1024
"""For CPUs, where the time of a pass grows with its tokens: while an engine has groups of two
steps, large passes would let the younger ones slow down the older ones that the learner waits for.
"""

SHARE_OF_ENGINE = 0.4
"""Of the memory of a GPU that a learner uses at the same time: its fp32 master weights, two moments
and sums of gradients need the rest."""


def follows(device: Device, written: Settings, *, has_engines: bool = True) -> dict[str, object]:
    """Dotted keys and the values that `device` gives them, for all stages: a stage takes those that
    it has and that were not written. `has_engines`: it has engines beside the learner."""
    is_stale = _number(written, "max_staleness") > 0
    if device == "cpu":
        return {"rollout.pass_tokens": STALE_PASS_TOKENS} if is_stale else {}
    shares = _gpus(written, is_stale) if has_engines else {"learner.gpus": 1}
    return {**ON_CUDA, **_attention(written), **_gpus_of_teachers(written), **shares}


def _attention(written: Settings) -> dict[str, object]:
    """Kernels without padding compute in half precision only."""
    dtype = written.get("learner.dtype", ON_CUDA["learner.dtype"])
    return {} if dtype == "float32" else {"learner.attention": "varlen"}


def _gpus_of_teachers(written: Settings) -> dict[str, object]:
    """One for each teacher that vLLM loads."""
    names = (key.removesuffix(".model") for key in written if key.endswith(".model"))
    return {f"{name}.gpus": 1 for name in names if not written.get(f"{name}.base_url")}


def _gpus(written: Settings, is_stale: bool) -> dict[str, object]:
    """GPUs of an engine and of a learner rank, and how weights travel between them."""
    engine, rank = _number(written, "rollout.gpus"), _number(written, "learner.gpus")
    if not _is_shared(written, engine, rank):
        per_engine = max(1, _number(written, "rollout.tensor_parallel"))
        return {"rollout.gpus": per_engine, "learner.gpus": 1, "sync.transport": "broadcast"}
    engine = engine or (1 - rank if rank else 0.5)
    colocate = written.get("colocate", "share" if is_stale else "time")
    shares: dict[str, object] = {
        "rollout.gpus": round(engine, 6),
        "learner.gpus": round(1 - engine, 6),
        "colocate": colocate,
        "sync.transport": "ipc",
    }
    if colocate == "share":
        shares["rollout.gpu_memory_utilization"] = SHARE_OF_ENGINE
    return shares


def _is_shared(written: Settings, engine: float, rank: float) -> bool:
    """Whether an engine and a learner rank share a GPU: as written, else where there is just one.

    Which devices a cluster has is not known here.
    """
    if "colocate" in written:
        return written["colocate"] != "off"
    if engine or rank:
        return 0 < engine < 1 or 0 < rank < 1
    if _number(written, "rollout.tensor_parallel") > 1 or os.environ.get("RAY_ADDRESS"):
        return False
    return len(visible_gpus().devices) == 1


def _number(written: Settings, key: str) -> float:
    """0 where the key was not written, or as something else."""
    value = written.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0
