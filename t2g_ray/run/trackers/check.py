"""Names of trackers -> nothing, or an error before anything starts."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from netrc import netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PACKAGES = {
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "trackio": ("trackio", "trackio"),
    "tensorboard": ("tensorboard", "tensorboard"),
}
"""Tracker -> the module that it needs, and the package that brings it."""

_DATABRICKS_FILE = Path("~/.databrickscfg")


class TrackerError(ValueError):
    """A tracker cannot be used: says what must hold, what was found, what to do."""


def check_trackers(names: Sequence[str], *, is_offline: bool) -> None:
    """Raises TrackerError where a package is missing, or a login is needed and there is none.

    Asks no server: whether a login is right is seen when the run begins.
    """
    for name in names:
        module, package = PACKAGES[name]
        if find_spec(module) is None:
            raise TrackerError(
                f"trackers: {name} needs the package {package}, found none; run `pip install "
                f"{package}`, or leave {name} out"
            )
    if "wandb" in names and not is_offline:
        _check_wandb()
    if "mlflow" in names and not is_offline:
        _check_mlflow()


def _check_wandb() -> None:
    settings = importlib.import_module("wandb").setup().settings
    if settings.mode == "online" and not _has_wandb_login(settings):
        raise TrackerError(
            f"trackers: wandb needs a login at {settings.base_url}, found none; run `wandb login`, "
            "set WANDB_API_KEY, or write into the run folder with tracking.offline=true"
        )


def _has_wandb_login(settings: Any) -> bool:
    """Where `wandb.login` looks, which would ask the server as well and wait for it."""
    if settings.api_key or settings.identity_token_file or os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    paths = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    host = urlsplit(settings.base_url).hostname or ""
    found = (netrc(path) for path in map(Path.expanduser, paths) if path.is_file())
    return any(host in one.hosts for one in found)


def _check_mlflow() -> None:
    """Databricks is the one store of MLflow that takes nothing without a login."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    has_login = any(map(os.environ.get, ("DATABRICKS_HOST", "DATABRICKS_CONFIG_PROFILE")))
    if address.startswith("databricks") and not (
        has_login or _DATABRICKS_FILE.expanduser().is_file()
    ):
        raise TrackerError(
            f"trackers: mlflow needs a login for MLFLOW_TRACKING_URI={address}, found none; run "
            "`databricks configure`, set DATABRICKS_HOST and DATABRICKS_TOKEN, or write into the "
            "run folder with tracking.offline=true"
        )
