"""A configuration -> what may be shown to everyone who reads a tracker: no value is a secret."""

from __future__ import annotations

import os
from collections.abc import Mapping

from t2g_ray.run.job.variables import SECRET_NAME, secret_in, secret_values
from t2g_ray.run.resume.meaning import flat
from t2g_ray.run.trackers.tracker import Cell

HIDDEN = "(hidden)"


def scrubbed(
    tree: Mapping[str, object], environment: Mapping[str, str] = os.environ
) -> dict[str, Cell | bool]:
    """Dotted keys and plain values; hidden is what is named as a secret, has the form of one, or
    holds one of the environment's.

    Example: {"engine": {"hf_token": "x", "seed": 1}} -> {"engine.hf_token": "(hidden)",
    "engine.seed": 1}.
    """
    secrets = secret_values(environment)
    return {key: _shown(key, value, secrets) for key, value in flat(tree).items()}


def _shown(key: str, value: object, secrets: Mapping[str, str]) -> Cell | bool:
    if value is None or isinstance(value, bool | int | float):
        # Numbers are counts and sizes, such as max_tokens, whatever their name.
        return value
    text = str(value)
    is_secret = SECRET_NAME.search(key.upper()) or secret_in(text, secrets)
    return HIDDEN if is_secret else text
