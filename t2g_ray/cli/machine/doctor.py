"""This machine -> what it has, what it lacks, and what to do about that.

Invariant: a check that fails for a reason nobody thought of is shown as missing, never as good.
Packages are imported in processes of their own, so that a broken one breaks nothing else.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import t2g_ray
from t2g_ray.run.device.check import TO_CPU, TO_CUDA
from t2g_ray.run.device.gpus import Gpus, visible_gpus
from t2g_ray.run.device.installed import Device, installed_device
from t2g_ray.run.machine import memory_gib

GIB = 2**30
IMPORT_LIMIT_S = 180.0
IMPORTS = {
    "ray": "import ray",
    "torch": "import torch",
    "transformers": "from transformers import AutoModelForCausalLM",
    "vllm": "from vllm.v1.engine.llm_engine import LLMEngine",
    "deepspeed": "import deepspeed",
}
"""What the product needs from each package: a bare `import vllm` loads next to nothing."""
SEES_A_GPU = {
    # Where torch sees none, `init` says why.
    "torch.cuda": "import torch\nif not torch.cuda.is_available():\n    torch.cuda.init()\n"
    "    raise SystemExit('torch sees no GPU')",
}
MIN_DRIVER = 580
RAY_PORTS = {6379: "cluster", 8265: "dashboard", 10001: "client"}
MIN_SHARED_GIB = 1.0
MIN_MEMORY_GIB = 6.0

CheckStatus = Literal["good", "note", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `advice` says what to do and is empty where all is well.

    Example: Check("GPUs", "none", "note", "everything runs on the CPU").
    """

    name: str
    found: str
    status: CheckStatus = "good"
    advice: str = ""


def examine() -> list[Check]:
    """All checks; takes some seconds, most of them for imports."""
    device, gpus = installed_device(), visible_gpus()
    on_gpus = [driver_check(gpus)] if device == "cuda" else []
    return [
        Check("t2g-ray", t2g_ray.__version__),
        python_check(sys.version_info[:3]),
        *import_checks(IMPORTS | (SEES_A_GPU if device == "cuda" else {})),
        Check("CPUs", f"{len(os.sched_getaffinity(0))} ({platform.machine()})"),
        memory_check(memory_gib()),
        shared_memory_check(),
        gpu_check(device, gpus),
        *on_gpus,
        loopback_check(),
        *(port_check(port, use) for port, use in RAY_PORTS.items()),
    ]


def verdict(checks: Sequence[Check]) -> str:
    """One line: ready or not, and by what."""
    missing = [check.name for check in checks if check.status == "missing"]
    if missing:
        return f"not ready: {', '.join(missing)}"
    notes = sum(check.status == "note" for check in checks)
    return f"ready, with {notes} note{'s' if notes > 1 else ''}" if notes else "ready"


def python_check(version: tuple[int, int, int]) -> Check:
    """3.11 or newer."""
    shown = ".".join(map(str, version))
    if version >= (3, 11, 0):
        return Check("Python", shown)
    return Check("Python", shown, "missing", "3.11 or newer is needed")


def import_checks(imports: dict[str, str]) -> list[Check]:
    """Whether each statement works in a fresh interpreter; all at the same time."""
    processes = {
        package: subprocess.Popen(
            [sys.executable, "-c", _IMPORT.format(statement, package.partition(".")[0])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
        )
        for package, statement in imports.items()
    }
    return [_finish_import(package, process) for package, process in processes.items()]


_IMPORT = """{}
from importlib.metadata import version, packages_distributions
print(version(packages_distributions()["{}"][0]))"""


def _finish_import(package: str, process: subprocess.Popen[str]) -> Check:
    advice = "see GPUs and driver" if package in SEES_A_GPU else "run make setup"
    try:
        output, errors = process.communicate(timeout=IMPORT_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Check(package, f"no answer in {IMPORT_LIMIT_S:.0f} s", "missing", advice)
    if process.returncode == 0:
        return Check(package, output.split()[-1])
    reason = errors.strip().rpartition("\n")[2] or f"exit code {process.returncode}"
    return Check(package, reason, "missing", advice)


def memory_check(total_gib: float) -> Check:
    """Enough for the demo: two engines of 1.8 GiB each, two learner ranks, and Ray."""
    if total_gib >= MIN_MEMORY_GIB:
        return Check("memory", f"{total_gib:.1f} GiB")
    return Check(
        "memory", f"{total_gib:.1f} GiB", "note", f"the demo needs about {MIN_MEMORY_GIB:.0f} GiB"
    )


def shared_memory_check(folder: str = "/dev/shm") -> Check:
    """Ray keeps its objects there."""
    if not Path(folder).is_dir():
        return Check(folder, "none", "note", "Ray keeps its objects on disk, which is slow")
    size_gib = shutil.disk_usage(folder).total / GIB
    if size_gib >= MIN_SHARED_GIB:
        return Check(folder, f"{size_gib:.1f} GiB")
    return Check(
        folder,
        f"{size_gib:.2f} GiB",
        "note",
        "too small for Ray's objects, which then go to disk (Docker: --shm-size=4g)",
    )


def gpu_check(device: Device, gpus: Gpus) -> Check:
    """NVIDIA GPUs by name. The CUDA set needs one; to the CPU set they are of no use."""
    if device == "cuda":
        if not gpus.devices:
            return Check("GPUs", "none", "missing", f"the CUDA set needs one; for CPUs: {TO_CPU}")
        return Check("GPUs", gpus.listed)
    if not gpus.devices:
        return Check("GPUs", "none (everything runs on the CPU)")
    return Check("GPUs", gpus.listed, "note", f"the CPU set does not use them: {TO_CUDA}")


def driver_check(gpus: Gpus) -> Check:
    """Whether the driver is new enough for the CUDA set."""
    major = gpus.driver.partition(".")[0]
    if major.isdigit() and int(major) >= MIN_DRIVER:
        return Check("driver", gpus.driver)
    needed = f"CUDA 13 needs {MIN_DRIVER} or newer: install it"
    return Check("driver", gpus.driver or "none", "missing", needed)


def loopback_check() -> Check:
    """Whether processes of this machine reach each other by TCP, as Ray's must."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            with socket.create_connection(address, timeout=5):
                return Check("local connections", "work")
    except OSError as error:
        return Check("local connections", str(error), "missing", "Ray needs TCP on 127.0.0.1")


def port_check(port: int, use: str) -> Check:
    """Whether a port of a Ray head node is free."""
    name = f"port {port} (Ray {use})"
    try:
        with socket.create_server(("127.0.0.1", port)):
            return Check(name, "free")
    except OSError:
        return Check(
            name,
            "in use",
            "note",
            "perhaps a Ray cluster; t2g joins one only where RAY_ADDRESS names it",
        )
