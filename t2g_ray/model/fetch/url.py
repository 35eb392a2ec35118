"""A model at a URL -> a folder on this machine that holds its files.

Invariant: the folder is whole or not there, and it is fetched again where the files at the URL are
not those that it was made from, by size and what the file system says of their version. Of several
runs that start on one machine one fetches, and the others wait for it.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from t2g_ray.run.folder import write_json
from t2g_ray.run.storage.place import stage_of
from t2g_ray.run.storage.remote import Remote

_LISTING = ".listing.json"


def folder_of(url: str) -> Path:
    """Where it lies, alike on all nodes."""
    return stage_of(url) / "model"


def fetched(url: str) -> str:
    """The folder, downloaded where it is not here yet.

    Raises ValueError where the URL holds no model, StorageError where it cannot be read.
    """
    remote, folder = Remote(url), folder_of(url)
    names = {name: size for name, size in remote.names().items() if "/" not in name}
    if "config.json" not in names:
        raise ValueError(
            f"a model at a URL must hold config.json, {url} does not; give the folder that "
            "save_pretrained or a run wrote (model/)"
        )
    listing = remote.versions(names)
    made_from = folder / _LISTING
    with _alone(folder):
        if made_from.is_file() and json.loads(made_from.read_text("utf-8")) == listing:
            return str(folder)
        temporary = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        remote.get_all({name: temporary / name for name in names})
        write_json(temporary / _LISTING, listing)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    return str(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process fetches the folder, where its file system has locks."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
