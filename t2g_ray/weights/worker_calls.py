"""What an engine asks of its workers, which may be other processes, and what they answer.

Invariant: a WeightSyncError of a worker reaches the engine as such, with the worker's rank where
there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from t2g_ray.vllm_private.worker import weight_receiver, worker_device
from t2g_ray.weights.channels import device_key
from t2g_ray.weights.manifest import Manifest, WeightSyncError


@dataclass(frozen=True, slots=True)
class Failure:
    """What a WeightSyncError of a worker said."""

    message: str


def on_worker(worker: Any, method: Any, arguments: Sequence[Any]) -> Any:
    """In a worker: call a function of it, or its method of that name.

    Returns a WeightSyncError as a `Failure`, and raises all others.
    """
    # Boundary: vLLM turns an exception of another process, returned or raised, into a RuntimeError.
    try:
        if isinstance(method, str):
            return getattr(worker, method)(*arguments)
        return method(worker, *arguments)
    except WeightSyncError as error:
        return Failure(str(error))


def raise_failure(results: Sequence[Any]) -> None:
    """Raise the WeightSyncError of a worker, of the first rank that has one."""
    for rank, result in enumerate(results):
        if isinstance(result, Failure):
            place = f"rank {rank} of {len(results)}: " if len(results) > 1 else ""
            raise WeightSyncError(place + result.message)


def check_kinds(worker: Any) -> int:
    """In a worker: how many tensors it wants; raises WeightSyncError for a layer without a rule."""
    return len(weight_receiver(worker).proof.tensors)


def close_failed_update(worker: Any) -> None:
    """In a worker: end an update that failed at its end, or on another worker.

    vLLM ends one where it fails to take a bucket; otherwise it goes on, and no other can begin.
    """
    weight_receiver(worker).give_up()
    with suppress(RuntimeError):  # vLLM's: none is under way
        worker.finish_weight_update()


def prove(worker: Any, manifest: Manifest | None = None) -> int:
    """In a worker: `BucketWeightTransferEngine.prove`."""
    proven: int = weight_receiver(worker).prove(manifest)
    return proven


def worker_key(worker: Any) -> str:
    """In a worker: `channels.device_key`."""
    return device_key(worker_device(worker))
