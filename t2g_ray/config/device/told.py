"""What was written -> lines that say which device it comes to, and what follows from that."""

from __future__ import annotations

from collections.abc import Mapping

from t2g_ray.config.device.settle import (
    GPU_KEYS,
    all_that_follow,
    derived,
    device_of,
    written_settings,
)
from t2g_ray.config.section import Section


def device_lines(kind: type[Section], tree: Mapping[str, object]) -> list[str]:
    """For a tree of plain values that makes a configuration of `kind`.

    Example: ["device cuda, since GPUs are asked for",
    "derived for cuda: learner.dtype=bfloat16, sync.transport=broadcast",
    "set, where cuda would give another value: rollout.dtype=float32 (bfloat16)"].
    """
    written = written_settings(tree)
    device = device_of(written)
    if device is None:
        return []
    lines = [f"device {device}, {_reason(written)}"]
    if given := derived(kind, device, written):
        settings = ", ".join(f"{key}={shown(value)}" for key, value in given.items())
        lines.append(f"derived for {device}: {settings}")
    other = [
        f"{key}={shown(written[key])} ({shown(value)})"
        for key, value in all_that_follow(kind, device, written).items()
        if key in written and written[key] != value
    ]
    if other:
        lines.append(f"set, where {device} would give another value: {', '.join(other)}")
    return lines


def _reason(written: Mapping[str, object]) -> str:
    if written.get("device", "auto") != "auto":
        return "as set"
    asked = [written[key] for key in GPU_KEYS if key in written]
    if not asked:
        return "which the installed packages are for"
    return "since GPUs are asked for" if any(asked) else "since gpus is set to 0"


def shown(value: object) -> str:
    """As YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
