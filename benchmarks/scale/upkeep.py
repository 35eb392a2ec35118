"""What a step costs the driver for each actor, whatever the actor writes: weights and the trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from actors.cluster.handles import Handle, Ref, call_all, get_all, put
from actors.stages.transports import tell_all
from actors.workers.learner import BucketRef
from actors.workers.rollout import RolloutActor
from t2g_ray.weights.channels import SharedBucket
from t2g_ray.weights.manifest import MIB, Bucket, Manifest, TensorEntry, in_buckets, outline

Result = TypeVar("Result")

NUM_LAYERS = 28
TENSORS = {
    "self_attn.q_proj.weight": (3584, 3584),
    "self_attn.k_proj.weight": (512, 3584),
    "self_attn.v_proj.weight": (512, 3584),
    "self_attn.o_proj.weight": (3584, 3584),
    "mlp.gate_proj.weight": (18944, 3584),
    "mlp.up_proj.weight": (18944, 3584),
    "mlp.down_proj.weight": (3584, 18944),
    "self_attn.q_proj.bias": (3584,),
    "self_attn.k_proj.bias": (512,),
    "self_attn.v_proj.bias": (512,),
    "input_layernorm.weight": (3584,),
    "post_attention_layernorm.weight": (3584,),
}
"""A layer of a model of 7.6 billion parameters (Qwen2.5-7B): its message is what is measured."""
VOCABULARY = (152064, 3584)
BUCKET_BYTES = 64 * MIB


def manifest_7b(version: int) -> Manifest:
    """The manifest of such a model in bfloat16, in buckets of at least 64 MiB."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": VOCABULARY}
    for layer in range(NUM_LAYERS):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in TENSORS.items()}
    shapes |= {"model.norm.weight": (3584,), "lm_head.weight": VOCABULARY}
    tensors = (
        (name, torch.empty(shape, dtype=torch.bfloat16, device="meta"))
        for name, shape in shapes.items()
    )
    entries: list[TensorEntry] = []
    for number, part in enumerate(in_buckets(tensors, bucket_bytes=BUCKET_BYTES)):
        for name, tensor in part:
            digest = f"{len(entries):032x}"
            entries.append(replace(outline(name, tensor, bucket=number), digest=digest))
    return Manifest(version, tuple(entries), entries[-1].bucket + 1)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Milliseconds of the driver's CPU an actor, of each run."""

    spans_ms: list[float] = field(default_factory=list)
    sync_ms: list[float] = field(default_factory=list)


def measure_upkeep(fleet: Sequence[Handle[RolloutActor]], *, runs: int) -> Upkeep:
    """The collection of spans, and the message that a version of 7 billion parameters is there.

    Its buckets are small objects here: no byte of them passes through the driver.
    """
    found = Upkeep()
    manifest = manifest_7b(1)
    buckets: list[BucketRef] = [put(_no_bytes()).reference for _ in range(manifest.num_buckets)]

    def load() -> list[Ref[float]]:
        return tell_all(fleet, manifest, buckets, verify=False)

    for _ in range(runs):
        spans_ms = _timed_ms(lambda: call_all(fleet, RolloutActor.drain_spans))
        found.spans_ms.append(spans_ms / len(fleet))
        found.sync_ms.append(_timed_ms(load) / len(fleet))
    return found


def _no_bytes() -> Bucket | SharedBucket:
    return []


def _timed_ms(begin: Callable[[], Sequence[Ref[Result]]]) -> float:
    started_s = time.process_time()
    get_all(begin())
    return 1000 * (time.process_time() - started_s)
