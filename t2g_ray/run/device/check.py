"""What a process is about to compute on -> nothing, or a refusal that says what to do.

Invariant: an engine or a learner rank starts on the device that its settings name, or not at all.
vLLM's build for CUDA takes a GPU wherever it sees one, whatever it was told, and ends without a
word that helps where it sees none; its build for CPUs cannot use a GPU at all.
"""

from __future__ import annotations

from t2g_ray.run.device.installed import Device, installed_device

TO_CPU = "make setup DEVICE=cpu, then the commands of .venv/bin"
TO_CUDA = "make setup DEVICE=gpu, then the commands of .venv-gpu/bin"


class DeviceError(ValueError):
    """The installed packages, the devices and the settings do not fit one another."""


def check_set(device: Device) -> None:
    """Raises DeviceError where the installed set is for the other device."""
    found = installed_device()
    if found == device:
        return
    if device == "cuda":
        raise DeviceError(
            "GPUs need the CUDA set of packages, found the CPU set, which cannot use them; run "
            f"{TO_CUDA}; or compute on the CPU: set device=cpu, and leave rollout.gpus and "
            "learner.gpus out"
        )
    raise DeviceError(
        "device=cpu, or gpus=0, needs the CPU set of packages, found the CUDA set, whose vLLM "
        f"takes a GPU whatever it is told; run {TO_CPU}; or compute on GPUs: set device=cuda, and "
        "leave rollout.gpus and learner.gpus out"
    )


def check_visible(num_gpus: float, where: str) -> None:
    """Raises DeviceError where no GPU is visible. `where` names what was looked at."""
    if not num_gpus:
        raise DeviceError(
            f"device=cuda needs an NVIDIA GPU, found none {where}; see `t2g doctor`; or compute on "
            f"the CPU: {TO_CPU}"
        )


def check_process(device: Device) -> None:
    """What `check_set` and `check_visible` refuse, for the process that is about to compute."""
    check_set(device)
    if device == "cuda":
        import torch

        check_visible(float(torch.cuda.is_available()), "in this process")
