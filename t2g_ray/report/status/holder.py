"""The lock of a run folder -> who holds it, and whether that process lives.

Invariant: the lock is looked at and never taken, so that looking cannot refuse a run that starts.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from t2g_ray.run.folder import LOCK

_NAME = re.compile(r"process (\d+) on (\S+) since (\S+ \S+) \((.*)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wrote the lock. Example: Holder(412, "node-1", "2026-05-01 10:00:00", "t2g grpo c.yaml",
    lives=True)."""

    process: int
    host: str
    since: str
    command: str
    lives: bool | None
    """None where only its own machine can tell."""


def holder_of(folder: Path) -> Holder | None:
    """The process that the lock names; None where nobody has the folder."""
    path = folder / LOCK
    try:
        match = _NAME.match(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if match is None:
        return None  # held since this moment: its holder did not write its name yet
    process, host = int(match[1]), match[2]
    lives = _has_open(process, path) if host == platform.node() else None
    return Holder(process, host, match[3], match[4], lives)


def _has_open(process: int, lock: Path) -> bool:
    """Whether the process lives and has the lock open: another may have got its number since."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's: it lives, and what it has open is not shown
    files = Path(f"/proc/{process}/fd")
    try:
        return any(_is_same(file, lock) for file in files.iterdir())
    except OSError:
        return not files.parent.parent.is_dir()  # a system that shows no open files


def _is_same(file: Path, lock: Path) -> bool:
    try:
        return file.samefile(lock)
    except OSError:
        return False  # closed meanwhile
