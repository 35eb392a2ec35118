"""Training state <-> a folder that is whole or not there.

Files are written under a temporary name, listed with size and digest in `manifest.json`, sealed
by the marker `COMPLETE` (the digest of the manifest) and renamed. Invariant: a process killed at
any moment leaves every earlier checkpoint as it was, one of the same step included, and what
`find_checkpoint` returns is file for file and byte for byte what was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from t2g_ray.run.folder import write_json, write_text

STATE = "state.json"
MANIFEST = "manifest.json"
MARKER = "COMPLETE"
_NAME = re.compile(r"step_(\d{6,})(\.again)?")
_AGAIN = ".again"
"""Ends the name of a checkpoint that takes the place of one of the same step."""


class CheckpointError(ValueError):
    """Checkpoints exist and none of them can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCheckpoint:
    """The checkpoint to continue from.

    Example: FoundCheckpoint(path=Path(".../step_000050"), step=50, state={"time_s": 8.1},
    rejected=("step_000100 is not whole: state.json is missing",)).
    """

    path: Path
    step: int
    state: Mapping[str, Any]
    rejected: tuple[str, ...]
    """Newer ones that were passed over, and why."""


def temporary_path(folder: Path) -> Path:
    """Where the files of a checkpoint are written before it is whole; the same on all ranks."""
    return folder.with_name(f".{folder.name}.partial")


def begin(folder: Path) -> Path:
    """Make the empty temporary folder to fill. One rank calls this before all ranks write."""
    temporary = temporary_path(folder)
    if temporary.exists():
        shutil.rmtree(temporary)  # left by a killed process
    temporary.mkdir(parents=True)
    return temporary


def finish(folder: Path, state: Mapping[str, Any]) -> None:
    """Seal what lies in the temporary folder and give it its name; the data is then on disk.

    One rank calls this after all ranks have written. A checkpoint of that name is replaced: the
    new one first stands beside it, so that at every moment one of the two is whole.
    """
    temporary = temporary_path(folder)
    write_json(temporary / STATE, state)
    files = [path for path in sorted(temporary.rglob("*")) if path.is_file()]
    for path in files:
        _sync(path)
    write_json(
        temporary / MANIFEST,
        {
            path.relative_to(temporary).as_posix(): {
                "bytes": path.stat().st_size,
                "xxh3_128": _digest(path),
            }
            for path in files
        },
    )
    for path in temporary.rglob("*"):
        if path.is_dir():
            _sync(path)
    write_text(temporary / MARKER, _digest(temporary / MANIFEST))
    again = folder.with_name(folder.name + _AGAIN)
    if again.exists():
        _replace(folder, again) if _flaw(again) is None else _remove(again)
    if folder.exists():
        temporary.rename(again)
        _sync(folder.parent)
        _replace(folder, again)
    else:
        temporary.rename(folder)
        _sync(folder.parent)


def _replace(folder: Path, again: Path) -> None:
    """Give the whole checkpoint `again` the name of the one that it replaces."""
    if folder.exists():
        _remove(folder)
    again.rename(folder)
    _sync(folder.parent)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; killed in between, it is gone and not damaged."""
    leftover = folder.with_name(f".{folder.name}.removed")
    if leftover.exists():
        shutil.rmtree(leftover)
    folder.rename(leftover)
    shutil.rmtree(leftover)


def write_checkpoint(folder: Path, fill: Callable[[Path], None], state: Mapping[str, Any]) -> None:
    """A checkpoint by a single process: `fill` writes its files into the folder it is given."""
    fill(begin(folder))
    finish(folder, state)


def find_checkpoint(checkpoints: Path) -> FoundCheckpoint | None:
    """The newest checkpoint that is whole, or None when there is none at all.

    Nothing in it was read before all its digests were compared. Raises CheckpointError when there
    are some and each is damaged: whether to start again from nothing is for a person to decide.
    """
    rejected: list[str] = []
    for step, folder in reversed(_listed(checkpoints)):
        flaw = _flaw(folder)
        if flaw is None:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            return FoundCheckpoint(path=folder, step=step, state=state, rejected=tuple(rejected))
        rejected.append(f"{folder.name} is not whole: {flaw}")
    if rejected:
        raise CheckpointError(
            f"{checkpoints} must hold a whole checkpoint to resume from, found "
            f"{'; '.join(rejected)}. Restore one, or give another run_dir to start from step 0"
        )
    return None


def discard_after(checkpoints: Path, step: int) -> None:
    """Remove checkpoints of later steps: a run that resumes at `step` takes those steps again."""
    for later, folder in _listed(checkpoints):
        if later > step:
            _remove(folder)


def keep_last(checkpoints: Path, num_kept: int) -> None:
    """Remove all but the newest `num_kept`, and what killed processes left half done."""
    for _, folder in _listed(checkpoints)[:-num_kept]:
        _remove(folder)
    for leftover in checkpoints.glob(".step_*"):
        shutil.rmtree(leftover)


def _listed(checkpoints: Path) -> list[tuple[int, Path]]:
    """Steps and folders, oldest first; of one step, the one that replaces the other last."""
    if not checkpoints.is_dir():
        return []
    matches = [(_NAME.fullmatch(path.name), path) for path in checkpoints.iterdir()]
    return sorted((int(match[1]), path) for match, path in matches if match)


def _flaw(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None for a whole one."""
    manifest = folder / MANIFEST
    for path in (folder / MARKER, manifest):
        if not path.is_file():
            return f"{path.name} is missing"
    if (folder / MARKER).read_bytes() != _digest(manifest).encode():
        return f"{MANIFEST} is not the one that {MARKER} seals"
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    written = {*entries, MANIFEST, MARKER}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in written:
            return f"{path.relative_to(folder).as_posix()} was added to it"
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{name} must have {entry['bytes']} bytes, found {path.stat().st_size}"
        if _digest(path) != entry["xxh3_128"]:
            return f"{name} has changed since it was written"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _sync(path: Path) -> None:
    """Have a file or a folder on disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
