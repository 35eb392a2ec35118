"""Training state <-> a folder that is whole or not there.

Files are written under a temporary name. Each writer digests its own, and what it says of them is
the manifest; nobody reads them again. `manifest.json` is sealed by the marker `COMPLETE` (its
digest) and the folder renamed. Invariant: a process killed at any moment leaves every earlier
checkpoint as it was, one of the same step included; what is sealed has the files of all writers;
and what `find_checkpoint` returns is file for file and byte for byte what was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from t2g_ray.run.folder import write_json, write_text

STATE = "state.json"
MANIFEST = "manifest.json"
MARKER = "COMPLETE"
_NAME = re.compile(r"step_(\d{6,})(\.again)?")
AGAIN = ".again"
"""Ends the name of a checkpoint that takes the place of one of the same step."""


VISIBLE_S = 60.0
"""How long a file of another node may take to appear: what NFS keeps of a folder, at most."""
_LOOK_S = 0.2


class CheckpointError(ValueError):
    """Checkpoints exist and none of them can be used, or one cannot be completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A file of a checkpoint as its writer knows it. Example: WrittenFile(
    name="learner/state/mp_rank_00_model_states.pt", num_bytes=914, xxh3_128="3f...")."""

    name: str
    """Its path inside the checkpoint."""
    num_bytes: int
    xxh3_128: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one process wrote of a checkpoint. Example: Share(writer="learner/1 on node 10.0.0.5",
    files=(...))."""

    writer: str
    files: tuple[WrittenFile, ...]
    node: str = ""
    """Id of the node that it lies on, where nodes do not share the folder."""


def share_of(writer: str, folder: Path, paths: Iterable[Path], node: str = "") -> Share:
    """Have files of a checkpoint's temporary `folder` on disk, and digest them where they were
    written."""
    files = []
    for path in sorted(paths):
        _sync(path)
        name = path.relative_to(folder).as_posix()
        size = path.stat().st_size
        files.append(WrittenFile(name=name, num_bytes=size, xxh3_128=_digest(path)))
    return Share(writer=writer, files=tuple(files), node=node)


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


def finish(folder: Path, state: Mapping[str, Any], shares: Sequence[Share]) -> None:
    """Seal what lies in the temporary folder and give it its name; the data is then on disk.

    One rank calls this after all ranks have written, with the share of each. A checkpoint of that
    name is replaced: the new one first stands beside it, so that at every moment one of the two is
    whole. Raises CheckpointError as `seal` does.
    """
    temporary = temporary_path(folder)
    seal(temporary, state, shares)
    for path in temporary.rglob("*"):
        if path.is_dir():
            _sync(path)
    again = folder.with_name(folder.name + AGAIN)
    if again.exists():
        _replace(folder, again) if flaw_of(again) is None else _remove(again)
    if folder.exists():
        temporary.rename(again)
        _sync(folder.parent)
        _replace(folder, again)
    else:
        temporary.rename(folder)
        _sync(folder.parent)


def seal(
    temporary: Path,
    state: Mapping[str, Any],
    shares: Sequence[Share],
    elsewhere: Sequence[Share] = (),
) -> None:
    """Write state, manifest and marker beside the files of `shares`; the manifest also has those
    of `elsewhere`.

    Raises CheckpointError, and seals nothing, where a file of `shares` cannot be seen from here or
    has another size, or a file is nobody's.
    """
    write_json(temporary / STATE, state)
    _check_all_there(temporary, shares, elsewhere)
    own = share_of("this process", temporary, [temporary / STATE])
    all_files = [file for share in (own, *shares, *elsewhere) for file in share.files]
    entries = {
        file.name: {"bytes": file.num_bytes, "xxh3_128": file.xxh3_128}
        for file in sorted(all_files, key=lambda file: file.name)
    }
    write_json(temporary / MANIFEST, entries)
    write_text(temporary / MARKER, _digest(temporary / MANIFEST))


def _check_all_there(temporary: Path, shares: Sequence[Share], elsewhere: Sequence[Share]) -> None:
    """Wait for the files of all shares; they may come from other nodes."""
    end = time.monotonic() + VISIBLE_S
    while flaws := [
        f"{file.name} of {share.writer} {flaw}"
        for share in shares
        for file in share.files
        if (flaw := _size_flaw(temporary / file.name, file.num_bytes))
    ]:
        if time.monotonic() > end:
            raise CheckpointError(
                "a checkpoint must hold what every rank wrote, found in "
                f"{temporary} after {VISIBLE_S:g} s {'; '.join(flaws[:5])}; give a run_dir that "
                "all nodes share, or a URL such as s3://bucket/run"
            )
        time.sleep(_LOOK_S)
    known = {STATE, *(file.name for share in (*shares, *elsewhere) for file in share.files)}
    for path in temporary.rglob("*"):
        if path.is_file() and (name := path.relative_to(temporary).as_posix()) not in known:
            raise CheckpointError(
                f"each file of a checkpoint must have a writer, found {name} in {temporary}, which "
                "no rank has written; let only this run write there"
            )


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
    temporary = begin(folder)
    fill(temporary)
    files = [path for path in temporary.rglob("*") if path.is_file()]
    finish(folder, state, [share_of("this process", temporary, files)])


def find_checkpoint(checkpoints: Path) -> FoundCheckpoint | None:
    """The newest checkpoint that is whole, or None when there is none at all.

    Nothing in it was read before all its digests were compared. Raises CheckpointError when there
    are some and each is damaged: whether to start again from nothing is for a person to decide.
    """
    rejected: list[str] = []
    for step, folder in reversed(_listed(checkpoints)):
        flaw = flaw_of(folder)
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
    found = [(step_of(path.name), path) for path in checkpoints.iterdir()]
    return sorted((step, path) for step, path in found if step is not None)


def step_of(name: str) -> int | None:
    """The step of the checkpoint of this name; None for what is none. Example: "step_000012"."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def flaw_of(folder: Path) -> str | None:
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
        if flaw := _size_flaw(folder / name, entry["bytes"]):
            return f"{name} {flaw}"
        if _digest(folder / name) != entry["xxh3_128"]:
            return f"{name} has changed since it was written"
    return None


def _size_flaw(path: Path, num_bytes: int) -> str:
    """What is wrong with a file at first sight; empty where nothing is."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    return "" if size == num_bytes else f"must have {num_bytes} bytes, found {size}"


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
