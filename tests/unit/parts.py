"""What several unit tests build alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t2g_ray.graph.counts import Counts, GraphCounts
from t2g_ray.rollout.spec import EngineSpec
from t2g_ray.types import GroupSummary, SyncReport, TrainReport

FOUND = GraphCounts(Counts(1, 0, 0), Counts())
MISSED = GraphCounts(Counts(0, 0, 1), Counts())


def group_summary(
    index: int = 0, rewards: Sequence[float] = (1.0, 0.0), *, version: int = 0, **fields: Any
) -> GroupSummary:
    """A group of graded completions of 2, 3 ... tokens; one with a reward found its one entity."""
    lengths = fields.get("lengths", tuple(range(2, 2 + len(rewards))))
    values: dict[str, Any] = {
        "base": tuple(rewards),
        "counts": tuple(FOUND if reward else MISSED for reward in rewards),
        "near": ((0.0, 0.0),) * len(rewards),
        "has_graph": (True,) * len(rewards),
        "is_valid": (True,) * len(rewards),
        "lengths": lengths,
        "prompt_tokens": 4,
        "is_truncated": (False,) * len(rewards),
        "min_version": version,
        "max_version": version,
        "tokens_by_version": {version: sum(lengths)},
        "parts": {"json": 0.5},
        "sampler": 0,
        "generate_s": 0.1,
        "score_s": 0.1,
    }
    return GroupSummary(index=index, rewards=tuple(rewards), **{**values, **fields})


def train_report(**fields: Any) -> TrainReport:
    """A step at which both sides agree to the bit."""
    values: dict[str, Any] = {
        "loss": 0.1,
        "grad_norm": 0.2,
        "lr": 1e-3,
        "entropy": 0.5,
        "kl": 0.0,
        "clip_fraction": 0.0,
        "logprob_difference": 0.0,
        "current_difference": fields.get("logprob_difference", 0.0),
        "num_current": fields.get("num_tokens", 10),
        "mismatch_kl": 0.0,
        "max_ratio": 1.0,
        "truncated_share": 0.0,
        "num_tokens": 10,
        "seconds": 0.3,
    }
    return TrainReport(**{**values, **fields})


def sync_report(seconds: float = 0.25) -> SyncReport:
    """A verified sync of one bucket."""
    return SyncReport(seconds=seconds, num_bytes=2**20, num_buckets=1, is_verified=True)


def engine_spec(**fields: Any) -> EngineSpec:
    """An engine that nobody starts."""
    values: dict[str, Any] = {
        "model": "none",
        "dtype": "float32",
        "max_model_len": 16,
        "max_sequences": 4,
        "threads": 1,
        "gpus": 0,
        "tensor_parallel": 1,
        "kv_cache_gib": 1,
        "gpu_memory_utilization": 0.5,
        "seed": 0,
        "sampler": 0,
    }
    return EngineSpec(**values | fields)
