"""Files that a command is told to write: checked before its work, written whole after it.

Invariant: no input of a command is ever one of the files that it writes, under whatever name, and
a file appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from t2g_ray.records.files import PACKED, UNPACKED_ENDINGS
from t2g_ray.run.folder import write_json

MAX_NAME_BYTES = 200
"""Longer names leave no room for that of the temporary file."""


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | str | None]) -> None:
    """Refuse outputs that would destroy an input or another output, or that cannot be written.

    `outputs` are files by the name of their option; `inputs` are files and folders, those that do
    not exist (names of the hub) and None left aside. Raises ValueError, and writes nothing.
    """
    existing = [Path(item) for item in inputs if _exists(item)]
    earlier: dict[str, Path] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        _check_file(name, path)
        for item in existing:
            check_apart(name, path, item)
        for other, its_path in earlier.items():
            if _is_same(path, its_path):
                raise ValueError(
                    f"{name} and {other} must be two files, found {path} for both; change one"
                )
        earlier[name] = path


def check_folder(name: str, folder: Path, inputs: Iterable[Path | str | None]) -> None:
    """Refuse a folder to write into that lies in an input folder, or holds an input.

    Raises ValueError, and writes nothing.
    """
    for item in inputs:
        if _exists(item):
            check_apart(name, folder, Path(item))
            if any(_is_same(parent, folder) for parent in Path(item).resolve().parents):
                raise ValueError(
                    f"{name} must be a folder without inputs of the command, found {item} in "
                    f"{folder}; give another folder"
                )


def check_apart(name: str, path: Path, item: Path) -> None:
    """Raise ValueError where `path` is the input `item`, or lies inside this folder."""
    if _is_same(path, item):
        raise ValueError(
            f"{name} must not be an input of the command, found {path}, which is {item}; "
            "give another name"
        )
    if item.is_dir() and any(_is_same(folder, item) for folder in path.resolve().parents):
        raise ValueError(
            f"{name} must not be inside the input folder {item}, found {path}; give a place "
            "outside of it"
        )


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of JSON in UTF-8, making folders where needed; whole or not at all.

    A lone surrogate, which UTF-8 cannot hold, is written as the escape that JSON reads it from.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_figures(path: Path, value: Mapping[str, Any]) -> None:
    """Write figures as JSON, making folders where needed; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)


def _check_file(name: str, path: Path) -> None:
    if path.is_symlink():
        raise ValueError(
            f"{name} must not be a link, found {path} to {path.readlink()}; name the file itself"
        )
    if path.is_dir():
        raise ValueError(f"{name} must be a file, found the folder {path}; add a file name")
    if path.exists() and not path.is_file():
        raise ValueError(f"{name} must be a regular file, found {path}; give another name")
    if path.parts[:1] and path.parts[0].startswith("~"):
        raise ValueError(f"{name} must be a path, found {path}; write out what ~ stands for")
    if path.suffix.lower() in (*PACKED, *UNPACKED_ENDINGS):
        raise ValueError(
            f"{name} must not end like a packed file, found {path}: it is written as it is; leave "
            f"{path.suffix} out"
        )
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise ValueError(
            f"{name} must have a name of at most {MAX_NAME_BYTES} bytes, found {path.name[:40]}...;"
            " give a shorter one"
        )
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise ValueError(f"{name} must be in a folder, found {path}, where {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(
            f"{name} must be in a folder that can be written to, found {parent}; give another place"
        )


def _exists(item: Path | str | None) -> TypeGuard[Path | str]:
    """Whether it is a file or folder; an option can hold other text, too long for a path too."""
    try:
        return bool(item) and Path(item or "").exists()
    except (OSError, ValueError):
        return False


def _is_same(first: Path, second: Path) -> bool:
    """Whether both are one file or folder: by name, through links, or as hard links."""
    if first.resolve() == second.resolve():
        return True
    return first.exists() and second.exists() and first.samefile(second)
