"""Folder or hub name of a model -> checked before it is read, with advice where it cannot be.

Policy and tokenizer are read from the same folders and names, so both readers use this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2g_ray.config import EMBEDDED


def is_embedded(name: str) -> bool:
    """True where the config names the tiny policy that needs no download."""
    return name == EMBEDDED


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
