"""A run folder -> held by one process until its run ends.

The lock is the operating system's (flock), so a killed process holds nothing. Invariant: while one
process is inside `held`, every other one that asks for the same folder is refused, also where the
folder was removed and made again in between.
"""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2g_ray.run.folder import LOCK


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made where it is missing, while the block runs.

    Raises ValueError with the holder when another process has it, for a file of that name, and
    where the file system has no locks.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"run_dir must be a folder, found a file at {folder}")
    path = folder / LOCK
    descriptor = _acquired(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _own_name().encode())
        yield
    finally:
        if _is_same_file(descriptor, path):
            path.unlink()
        os.close(descriptor)


def _acquired(path: Path) -> int:
    """An open file that holds the lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            raise _refusal(path, error, holder) from error
        if _is_same_file(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder removed it while this process waited to open it


def _refusal(path: Path, error: OSError, holder: str) -> ValueError:
    if isinstance(error, BlockingIOError):
        return ValueError(
            f"run_dir must be used by one process at a time, found {path.parent} held by "
            f"{holder or 'another process'}; wait until it ends, or give another run_dir"
        )
    return ValueError(
        f"run_dir must be on a file system with locks (flock), {path.parent} is not: {error}; "
        "give a run_dir on another one"
    )


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _own_name() -> str:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {platform.node()} since {since} ({command})"
