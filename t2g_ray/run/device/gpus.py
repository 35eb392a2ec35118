"""This machine -> the NVIDIA GPUs that a process started here may use.

Asked of the driver's own library (NVML), as vLLM and Ray do, or of nvidia-smi: no CUDA context is
made and torch is not loaded. Not yet run on a GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
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

    @property
    def listed(self) -> str:
        """How many of which. Example: "2 x NVIDIA L40S, 44.5 GiB"."""
        names = Counter(f"{gpu.name}, {gpu.memory_gib:g} GiB" for gpu in self.devices)
        return "; ".join(f"{count} x {name}" for name, count in names.items())


NO_GPUS = Gpus("", ())


def visible_gpus() -> Gpus:
    """NO_GPUS where there is no driver or no device."""
    driver, every = _asked_by_library() or _asked_by_command() or ("", [])
    numbers = _visible(os.environ.get("CUDA_VISIBLE_DEVICES"), len(every))
    return Gpus(driver, tuple(every[number] for number in numbers)) if numbers else NO_GPUS


def _asked_by_library() -> tuple[str, list[Gpu]] | None:
    """Driver and devices; None where the library is not there or does not answer."""
    try:
        nvml: Any = import_module("pynvml")  # only the CUDA set has it
        nvml.nvmlInit()
        try:
            handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
            return str(nvml.nvmlSystemGetDriverVersion()), [
                Gpu(
                    str(nvml.nvmlDeviceGetName(one)),
                    _gib(nvml.nvmlDeviceGetMemoryInfo(one).total / 2**20),
                )
                for one in handles
            ]
        finally:
            nvml.nvmlShutdown()
    except Exception:
        # No such package, no driver, or one that does not fit: each has an error of its own.
        return None


def _asked_by_command() -> tuple[str, list[Gpu]] | None:
    """The same by nvidia-smi, for the CPU set."""
    if shutil.which("nvidia-smi") is None:
        return None
    fields = "--query-gpu=driver_version,memory.total,name"
    listing = subprocess.run(
        ["nvidia-smi", fields, "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    rows = [line.split(", ", 2) for line in listing.stdout.splitlines()]
    if listing.returncode or not rows or any(len(row) < 3 for row in rows):
        return None
    return rows[0][0], [
        Gpu(name, _gib(float(mib) if mib.isdigit() else 0)) for _, mib, name in rows
    ]


def _gib(mib: float) -> float:
    return round(mib / 1024, 1)


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
