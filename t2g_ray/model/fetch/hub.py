"""A name of the hub -> the commit that it stands for, and the folder of its files here.

A name is `owner/model` or `owner/model@revision`. A run asks once what the revision stands for and
goes on with `owner/model@commit`, so that a branch which moves changes nothing in it. Files lie in
the cache of huggingface_hub (HF_HOME), which is used as it is where HF_HUB_OFFLINE=1 is set or the
hub is out of reach. Code that comes with a model is never fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SETTINGS = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt")
_WEIGHTS = ("*.safetensors",)
_OLD_WEIGHTS = ("*.bin",)
_DEEPER = ("*/*",)
"""Folders of a repository hold the same weights in other formats."""


def is_hub_name(model: str) -> bool:
    """Whether it looks like a name of the hub; a folder that is there is none."""
    return not Path(model).exists() and _NAME.fullmatch(model.partition("@")[0]) is not None


def is_pinned(model: str) -> bool:
    """Whether a name of the hub has a commit."""
    return is_hub_name(model) and _COMMIT.fullmatch(model.partition("@")[2]) is not None


def pinned(model: str) -> str:
    """`owner/model@commit` of a name of the hub.

    The hub is asked unless the name has a commit; where it cannot be reached, its cache here.
    Raises ValueError where neither has it.
    """
    if is_pinned(model):
        return model
    return f"{model.partition('@')[0]}@{Path(_snapshot(model, _SETTINGS)).name}"


def settings_folder(model: str) -> str:
    """Folder of a pinned model with its settings and tokenizer; weights may be there too.

    Raises ValueError where it cannot be had.
    """
    return _snapshot(model, _SETTINGS)


def fetched(model: str) -> str:
    """Folder of a pinned model with all that a run reads, downloaded where it is not here yet.

    Raises ValueError where it cannot be had.
    """
    folder = _snapshot(model, (*_SETTINGS, *_WEIGHTS))
    if not any(Path(folder).glob("*.safetensors")):
        _snapshot(model, _OLD_WEIGHTS)
    if not any(path for end in (*_WEIGHTS, *_OLD_WEIGHTS) for path in Path(folder).glob(end)):
        raise ValueError(
            f"a model must have weights (*.safetensors or *.bin), found none of {model} in "
            f"{folder}; choose another model, or fill the cache with: hf download "
            f"{model.partition('@')[0]}"
        )
    return folder


def _snapshot(model: str, patterns: Sequence[str]) -> str:
    from huggingface_hub import snapshot_download

    name, _, revision = model.partition("@")
    with _explained(model):
        return snapshot_download(
            name,
            revision=revision or "main",
            allow_patterns=list(patterns),
            ignore_patterns=list(_DEEPER),
        )


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """What huggingface_hub raises, in words that say what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = model.partition("@")
    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"the model {name} is gated, and the hub did not let this machine read it; ask for "
            f"access at {constants.ENDPOINT}/{name} and give its token to all nodes (HF_TOKEN_PATH "
            "names a file that holds it)"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"a model must be a folder or a name of the hub, found no {name} at "
            f"{constants.ENDPOINT} (a private one is not shown either); correct the name, or give "
            "a token that may read it to all nodes (HF_TOKEN_PATH names a file that holds it)"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"a revision must be a branch, tag or commit of the model, found no "
            f"{revision or 'main'!r} of {name}; correct {model}"
        ) from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE=1 keeps it from the hub; unset it, or fill the cache there"
        else:
            reason = (
                f"the hub at {constants.ENDPOINT} was not reached "
                f"({error.__cause__ or error}); let this machine reach it, or fill the cache"
            )
        raise ValueError(
            f"a model must be at the hub or in its cache, found {model} not whole in "
            f"{constants.HF_HUB_CACHE}, and {reason} with: hf download {name}"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(
            f"a model must be a folder or a name of the hub that can be read, found {model}: "
            f"{error}; correct the name, or try again"
        ) from error
