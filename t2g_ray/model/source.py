"""Folder, hub name or URL of a model -> checked before it is read, with advice where it cannot be.

Policy and tokenizer are read from the same folders and names, so both readers use this. A run reads
folders alone: hub names and URLs are fetched to one on each node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2g_ray.config import EMBEDDED
from t2g_ray.model.fetch import hub, url
from t2g_ray.run.storage.place import is_url
from t2g_ray.run.storage.remote import StorageError


def is_embedded(name: str) -> bool:
    """True where the config names the tiny policy that needs no download."""
    return name == EMBEDDED


def pinned_model(model: str, earlier: str = "") -> str:
    """The model of a run, of a hub name with the commit that it stands for.

    `earlier` is what an earlier start of the run found; it holds where `model` names no revision of
    its own. Raises ValueError where it cannot be a model or the hub does not have it.
    """
    if is_embedded(model) or is_url(model) or Path(model).is_dir():
        return model
    _check(model.partition("@")[0])
    return earlier if earlier.startswith(f"{model}@") else hub.pinned(model)


def folder_of_model(model: str) -> str:
    """The folder in which each node has a pinned model, with settings and tokenizer here.

    A name that is not pinned stays as it is. Raises ValueError where it cannot be had.
    """
    if is_url(model):
        return url.fetched(model)
    if hub.is_pinned(model):
        return hub.settings_folder(model)
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def lasting_name(model: str, folder: str) -> str:
    """What tells a pinned model from others: its hub name and commit, else its folder."""
    return model if hub.is_pinned(model) else folder


def fetched_model(model: str, folder: str) -> str:
    """Have a pinned model in `folder` of this node, all of it; what failed in words, else empty."""
    try:
        if is_url(model):
            found = url.fetched(model)
        elif hub.is_pinned(model):
            found = hub.fetched(model)
        else:
            found = folder
    except (ValueError, StorageError) as error:
        return str(error)
    if found != folder:
        return f"it keeps the model in {found}, others in {folder}; set HF_HOME alike on all nodes"
    if not (Path(folder) / "config.json").is_file():
        return f"it has no model in {folder}; put the folder on storage that all nodes share"
    return ""


@contextmanager
def reading(model: str) -> Iterator[None]:
    """Read a model inside the block. Raises ValueError where `model` is none that can be read."""
    _check(model)
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(
            "a model must be a folder or a hub name that can be read, found "
            f"{model!r}; correct the name, or download the model first: {error}"
        ) from error


def _check(model: str) -> None:
    """Refuse what cannot be a model before the hub is asked for it."""
    folder = Path(model)
    if is_embedded(model):
        raise ValueError(
            f"{model!r} is the untrained tiny policy and no saved model; make it with "
            "build_tiny_policy, or give the folder of a trained one"
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(
            f"a model folder must hold config.json, {folder} does not; give the folder that "
            "save_policy or save_pretrained wrote (in a run folder that is model/)"
        )
    owner = model.partition("/")[0]
    if not folder.exists() and "/" in model and Path(owner or "/").is_dir():
        raise ValueError(
            f"a model must be an existing folder or a hub name such as owner/model, found a folder "
            f"{owner or '/'} here and nothing at {model!r}; correct the path, or give the hub name "
            "where no folder has the owner's name"
        )
    # A hub name is "model" or "owner/model"; anything else can only be a path.
    if not folder.is_dir() and (model.startswith((".", "/", "~")) or model.count("/") > 1):
        raise ValueError(
            f"a model must be an existing folder or a hub name such as owner/model, found "
            f"{model!r}; train a policy first or correct the path"
        )
