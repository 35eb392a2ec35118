"""This machine -> the NVIDIA GPUs that a process started here may use.

Asked of the driver's own library (NVML), as vLLM and Ray do: no CUDA context is made and torch is
not loaded. Not yet run on a GPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. Example: Gpu("NVIDIA L40S", 44.5)."""

    name: str
    memory_gib: float


@dataclass(frozen=True, slots=True)
class Gpus:
    """The devices that CUDA_VISIBLE_DEVICES leaves, and the driver's version."""

    driver: str
    devices: tuple[Gpu, ...]


NO_GPUS = Gpus("", ())


def visible_gpus() -> Gpus:
    """NO_GPUS where there is no driver or no device."""
    try:
        nvml: Any = import_module("pynvml")  # only the CUDA set has it
        nvml.nvmlInit()
    except Exception:
        # No such package, no driver, or one that does not fit: each has an error of its own.
        return NO_GPUS
    try:
        numbers = _visible(os.environ.get("CUDA_VISIBLE_DEVICES"), nvml.nvmlDeviceGetCount())
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in numbers]
        found = tuple(
            Gpu(
                str(nvml.nvmlDeviceGetName(handle)),
                round(nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30, 1),
            )
            for handle in handles
        )
        return Gpus(str(nvml.nvmlSystemGetDriverVersion()), found) if found else NO_GPUS
    finally:
        nvml.nvmlShutdown()


def _visible(allowed: str | None, count: int) -> list[int]:
    """Numbers of the devices that CUDA_VISIBLE_DEVICES leaves of `count`.

    CUDA reads the list up to the first entry that names no device. An entry may be the identifier
    of a device (GPU-..., MIG-...): those are counted, and described by the devices in their order.
    """
    if allowed is None:
        return list(range(count))
    numbers: list[int] = []
    for place, entry in enumerate(allowed.split(",")):
        entry = entry.strip()
        if entry.startswith(("GPU-", "MIG-")):
            numbers.append(min(place, count - 1))
        elif entry.isdigit() and int(entry) < count:
            numbers.append(int(entry))
        else:
            break
    return numbers if count else []
