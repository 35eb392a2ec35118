"""A folder at a URL, by fsspec: files by name, every call tried again before it fails.

Invariant: a file is there whole or not at all under its name. What is written replaces what was
there; object stores do that by themselves, a file system of this machine by a rename.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

Result = TypeVar("Result")

WAITS_S = (1.0, 4.0, 16.0)
"""Between the tries of a call."""
_AT_ONCE = 8
"""Files that are on their way together."""
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


class StorageError(RuntimeError):
    """The storage of a run failed: says what, why, and what to do."""


class Remote:
    """The files below one URL; names are relative to it, with "/" between their parts."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._files, root = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            protocol = self.url.partition("://")[0]
            package = _PACKAGES.get(protocol, f"the fsspec package for {protocol}")
            raise ValueError(
                f"the storage {self.url} must be one that an installed package opens, found "
                f"{error}; install {package} on all nodes (pip install {package})"
            ) from error
        self._root = str(root).rstrip("/")

    def names(self, under: str = "") -> dict[str, int]:
        """Name and size in bytes of every file below `under`, a folder."""
        folder = self._path(under) if under else self._root

        def find() -> dict[str, Any]:
            self._files.invalidate_cache()
            found: dict[str, Any] = self._files.find(folder, detail=True)
            return found

        found = self._tried(f"the listing of {under or 'the run'}", find)
        return {
            path.removeprefix(f"{self._root}/"): int(entry["size"]) for path, entry in found.items()
        }

    def versions(self, names: Iterable[str]) -> dict[str, str]:
        """Of each file what changes when it does, as far as its file system can tell."""
        return {
            name: str(self._tried(f"a look at {name}", partial(self._version, self._path(name))))
            for name in names
        }

    def read(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError where there is none."""
        path = self._path(name)
        return self._tried(f"the reading of {name}", lambda: bytes(self._files.cat_file(path)))

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file."""
        self._replace(name, lambda path: self._files.pipe_file(path, content))

    def put_all(self, files: Mapping[str, Path]) -> None:
        """Upload files, each to its name, several at a time."""
        _at_once(lambda item: self._put(*item), files.items())

    def get_all(self, files: Mapping[str, Path]) -> None:
        """Download files by their names, several at a time."""
        _at_once(lambda item: self._get(*item), files.items())

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, in this order; those that are gone already are none."""
        for name in names:
            self._tried(f"the removal of {name}", partial(self._remove_one, self._path(name)))

    def _put(self, name: str, local: Path) -> None:
        self._replace(name, lambda path: self._files.put_file(str(local), path))

    def _get(self, name: str, local: Path) -> None:
        local.parent.mkdir(parents=True, exist_ok=True)
        what = f"the download of {name}"
        self._tried(what, lambda: self._files.get_file(self._path(name), str(local)))

    def _replace(self, name: str, write: Callable[[str], object]) -> None:
        path = self._path(name)

        def act() -> None:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if not isinstance(self._files, LocalFileSystem):
                write(path)
                return
            write(f"{path}.part")
            os.replace(f"{path}.part", path)

        self._tried(f"the upload of {name}", act)

    def _remove_one(self, path: str) -> None:
        if self._files.exists(path):
            self._files.rm_file(path)

    def _version(self, path: str) -> int:
        return int(self._files.checksum(path))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _tried(self, what: str, act: Callable[[], Result]) -> Result:
        for wait_s in (*WAITS_S, None):
            try:
                return act()
            except FileNotFoundError:
                raise
            except Exception as error:  # Boundary: each file system has errors of its own.
                if wait_s is None:
                    raise StorageError(
                        f"{what} at {self.url} must succeed, found {type(error).__name__}: {error} "
                        f"in {len(WAITS_S) + 1} tries"
                    ) from error
                time.sleep(wait_s)
        raise AssertionError("the last try returns or raises")


def _at_once(act: Callable[[tuple[str, Path]], None], items: Iterable[tuple[str, Path]]) -> None:
    """Do it for all items, and raise what the first of them raised."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(act, list(items)))
