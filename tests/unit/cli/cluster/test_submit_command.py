"""What `t2g submit` sends, shows and ends with."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.cluster.parts import ADDRESS, stand_in
from tests.unit.cli.parts import plain, t2g


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return stand_in(monkeypatch)


def test_what_stands_behind_the_dashes_is_the_command_of_the_job(cluster: dict[str, Any]) -> None:
    result = t2g("submit", "--address", ADDRESS, "--", "t2g", "grpo", "a.yaml", "--traceback")
    assert result.exit_code == 0, result.output
    assert cluster["command"] == ["t2g", "grpo", "a.yaml", "--traceback"]
    assert (cluster["address"], cluster["checkout"]) == (ADDRESS, Path.cwd())
    assert cluster["followed"] == ("job-1", ADDRESS)
    assert "job job-1: 3 files a line job job-1 ended as SUCCEEDED" in plain(result.stdout)
    assert "(a word)" in result.stderr


def test_variables_and_secrets_are_named_one_by_one(
    cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", ADDRESS)
    named = ("--env", "A", "--env", "B=1", "--secret", "C=/c", "--job", "mine")
    assert t2g("submit", *named, "--", "t2g", "doctor").exit_code == 0
    assert (cluster["named"], cluster["secrets"]) == (["A", "B=1"], ["C=/c"])
    assert (cluster["job"], cluster["address"]) == ("mine", ADDRESS)


def test_a_job_that_is_not_followed_is_only_sent(cluster: dict[str, Any]) -> None:
    assert t2g("submit", "--address", ADDRESS, "--no-follow", "--", "t2g", "doctor").exit_code == 0
    assert "followed" not in cluster


def test_a_failed_job_fails_the_command(cluster: dict[str, Any]) -> None:
    cluster["status"] = "FAILED"
    result = t2g("submit", "--address", ADDRESS, "--", "t2g", "doctor")
    assert result.exit_code == 1
    assert "job job-1 ended as FAILED; its log is above" in plain(result.stderr)


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_come_back(cluster: dict[str, Any]) -> None:
    cluster["status"] = "INTERRUPTED"
    result = t2g("submit", "--address", ADDRESS, "--", "t2g", "doctor")
    assert result.exit_code == 130
    assert "t2g job logs job-1 --follow" in plain(result.stderr)
    assert "stopped" not in cluster
