"""A configuration -> what may be shown to everyone who reads a tracker: no value is a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping

from t2g_ray.run.resume.meaning import flat
from t2g_ray.run.trackers.tracker import Cell

HIDDEN = "(hidden)"

_NAME = re.compile(
    r"(^|[_.\-])(TOKENS?|(API)?_?KEYS?|SECRETS?|PASS(WORD|WD|PHRASE)?|PWD|CREDENTIALS?|AUTH"
    r"|AUTHORIZATION|COOKIES?)([_.\-]|$)"
)
_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]+@"  # a login in an address
    r"|[?&](token|key|sig|signature|password|write_token|x-amz-[a-z-]+)=[^&\s]+"  # a signed address
    r"|\b(hf_|sk-|ghp_|github_pat_|glpat-|xox[bp]-|wandb_v1_)[A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY",
    re.IGNORECASE,
)


def scrubbed(tree: Mapping[str, object]) -> dict[str, Cell | bool]:
    """Dotted keys and plain values; what is named as a secret, or has the form of one, is hidden.

    Example: {"engine": {"hf_token": "x", "seed": 1}} -> {"engine.hf_token": "(hidden)",
    "engine.seed": 1}.
    """
    return {key: _shown(key, value) for key, value in flat(tree).items()}


def is_secret(name: str, value: str) -> bool:
    """Whether a setting is named as a secret, or its value has the form of one."""
    return _NAME.search(name.upper()) is not None or _VALUE.search(value) is not None


def _shown(key: str, value: object) -> Cell | bool:
    if value is None or isinstance(value, bool | int | float):
        # Numbers are counts and sizes, such as max_tokens, whatever their name.
        return value
    return HIDDEN if is_secret(key, str(value)) else str(value)
