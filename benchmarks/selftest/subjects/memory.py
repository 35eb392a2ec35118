"""This process -> the memory that it holds on its device, and held at most."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from t2g_ray.run.machine import memory_bytes
from t2g_ray.weights.manifest import MIB


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """In MiB. On a GPU what torch allocated there, on a CPU what is resident."""

    now: float
    peak: float
    device: str


def memory_use(subject: object = None) -> MemoryUse:
    """Of this process; `subject`, an engine or nothing, only makes it a call to one."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return MemoryUse(
            torch.cuda.memory_allocated() / MIB,
            torch.cuda.max_memory_allocated() / MIB,
            f"cuda:{torch.cuda.current_device()}",
        )
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return MemoryUse(memory_bytes() / MIB, peak_kib / 1024, "cpu")
