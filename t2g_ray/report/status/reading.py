"""Files that a run may be writing at this moment -> what is whole in them.

Invariant: nothing is written, locked or waited for, and a line that is half written, damaged or
gone is passed over: a run that went wrong is the one that people look at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]
"""An object with whatever JSON can hold."""

TAIL_BYTES = 1 << 20
"""Of a long file the end is read: some hundred steps."""


def newest_lines(path: Path, *, num_bytes: int = TAIL_BYTES) -> list[JsonObject]:
    """The whole lines at the end of a JSON Lines file, in order; none where there is no file."""
    try:
        with path.open("rb") as file:
            start = max(0, path.stat().st_size - num_bytes)
            file.seek(start)
            rows = file.read().split(b"\n")
    except OSError:
        return []
    # The last piece is no line yet; the first one may be the end of a line.
    found = (_object_of(row) for row in rows[1 if start else 0 : -1])
    return [line for line in found if line is not None]


def json_object(path: Path) -> JsonObject:
    """The object in a JSON file; an empty one where there is none that can be read."""
    try:
        return _object_of(path.read_bytes()) or {}
    except OSError:
        return {}


def age_s(path: Path, now_s: float) -> float | None:
    """Seconds since a file was last written; None where there is none."""
    try:
        return max(0.0, now_s - path.stat().st_mtime)
    except OSError:
        return None


def _object_of(raw: bytes) -> JsonObject | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
