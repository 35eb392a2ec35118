"""A URL -> the local folder that a run at it works in. Light: configurations ask."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path


def is_url(place: str) -> bool:
    """Whether a place is one that fsspec opens, and no path. Example: "s3://bucket/run"."""
    return "://" in place


def stage_of(url: str) -> Path:
    """Alike on all nodes: below T2G_STAGE, by default ~/.cache/t2g_ray/stage.

    Example: "s3://bucket/runs/first" -> .../first-1f3870be274f.
    """
    root = Path(os.environ.get("T2G_STAGE") or "~/.cache/t2g_ray/stage").expanduser()
    url = url.rstrip("/")
    return root / f"{url.rpartition('/')[2] or 'run'}-{sha256(url.encode()).hexdigest()[:12]}"
