"""What `t2g job` shows of jobs, and how it ends them."""

import json
from typing import Any

import pytest

from tests.unit.cli.cluster.parts import ADDRESS, stand_in
from tests.unit.cli.parts import plain, t2g


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return stand_in(monkeypatch)


@pytest.mark.parametrize("command", ["list", "status", "logs", "stop"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = t2g("job", command, "--help")
    assert result.exit_code == 0
    assert f"Example: t2g job {command}" in plain(result.stdout)


def test_a_list_has_a_line_a_job(cluster: dict[str, Any]) -> None:
    lines = t2g("job", "list", "--address", ADDRESS).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["job-1", "RUNNING"], ["job-1", "FAILED"]]
    assert all("1.5 min" in line and line.endswith("t2g grpo a.yaml") for line in lines)


def test_a_status_is_a_line_and_a_message_or_json(cluster: dict[str, Any]) -> None:
    shown = t2g("job", "status", "job-1", "--address", ADDRESS).stdout
    assert shown.startswith("job-1  RUNNING")
    assert shown.endswith("Job is well.\n")
    whole = json.loads(t2g("job", "status", "job-1", "--json", "--address", ADDRESS).stdout)
    assert (whole[0]["status"], whole[0]["started_s"]) == ("RUNNING", 1_000_000.0)


def test_a_log_is_shown_as_it_is_or_followed(cluster: dict[str, Any]) -> None:
    assert t2g("job", "logs", "job-1", "--address", ADDRESS).stdout == "all lines\n"
    assert "followed" not in cluster
    result = t2g("job", "logs", "job-1", "--follow", "--address", ADDRESS)
    assert result.stdout.startswith("a line\n")
    assert cluster["followed"] == ("job-1", ADDRESS)


def test_a_stop_waits_for_the_end(cluster: dict[str, Any]) -> None:
    cluster["status"] = "STOPPED"
    result = t2g("job", "stop", "job-1", "--address", ADDRESS)
    assert result.exit_code == 0, result.output
    assert cluster["stopped"] == ("job-1", ADDRESS)
    assert "job job-1 ended as STOPPED" in result.stdout


def test_a_job_that_fails_while_it_is_stopped_fails_the_command(cluster: dict[str, Any]) -> None:
    cluster["status"] = "FAILED"
    result = t2g("job", "stop", "job-1", "--address", ADDRESS)
    assert result.exit_code == 1
    assert "ended as FAILED" in result.stderr
