"""A tracker that cannot work is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.run.trackers import check
from t2g_ray.run.trackers.check import PACKAGES, TrackerError, check_trackers
from tests.unit.run.trackers.parts import packages

__all__ = ["packages"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_the_command_that_helps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "find_spec", lambda module: None)
    package = PACKAGES[name][1]
    with pytest.raises(TrackerError, match=f"{name} needs .*{package}, found none; run `pip inst"):
        check_trackers([name], is_offline=True)


def test_no_trackers_need_nothing() -> None:
    check_trackers([], is_offline=False)


@pytest.mark.slow
@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("login", ["WANDB_API_KEY", "netrc", "none"])
def test_wandb_needs_a_login_only_where_it_is_asked(
    login: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8443")
    if login == "WANDB_API_KEY":
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    if login == "netrc":
        lines = "machine wandb.example\n  login user\n  password 0123456789\n"
        (tmp_path / "netrc").write_text(lines)
    read_settings_anew()
    check_trackers(["wandb"], is_offline=True)
    if login != "none":
        check_trackers(["wandb"], is_offline=False)
        return
    with pytest.raises(TrackerError, match=r"needs a login at https://.*tracking\.offline=true"):
        check_trackers(["wandb"], is_offline=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    read_settings_anew()
    check_trackers(["wandb"], is_offline=False)


def read_settings_anew() -> None:
    """As a new process would."""
    import wandb

    wandb.teardown()


@pytest.mark.usefixtures("packages")
def test_mlflow_needs_a_login_for_databricks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)
    monkeypatch.delenv("DATABRICKS_CONFIG_PROFILE", raising=False)
    check_trackers(["mlflow"], is_offline=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks://team")
    with pytest.raises(TrackerError, match="MLFLOW_TRACKING_URI=databricks://team, found none"):
        check_trackers(["mlflow"], is_offline=False)
    monkeypatch.setenv("DATABRICKS_HOST", "https://host")
    check_trackers(["mlflow"], is_offline=False)
