"""What `t2g submit` sends, shows and ends with."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.unit.cli.parts import plain, t2g

ADDRESS = "http://head:8265"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Stands for the job API: takes every job and ends it with the status that is set here."""
    seen: dict[str, object] = {"status": "SUCCEEDED"}

    def submit(command: Sequence[str], *, address: str, checkout: Path) -> SimpleNamespace:
        seen.update(command=list(command), address=address, checkout=checkout)
        return SimpleNamespace(job="job-1", summary="job job-1: 3 files")

    def follow(job: str, *, address: str) -> object:
        seen["followed"] = job
        return seen["status"]

    jobs = ModuleType("actors.submit")
    jobs.submit, jobs.follow = submit, follow  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "actors.submit", jobs)
    return seen


def test_what_stands_behind_the_dashes_is_the_command_of_the_job(sent: dict[str, object]) -> None:
    result = t2g("submit", "--address", ADDRESS, "--", "t2g", "grpo", "a.yaml", "--traceback")
    assert result.exit_code == 0, result.output
    assert sent["command"] == ["t2g", "grpo", "a.yaml", "--traceback"]
    assert (sent["address"], sent["checkout"], sent["followed"]) == (ADDRESS, Path.cwd(), "job-1")
    assert "job job-1: 3 files" in result.stdout


def test_a_job_that_is_not_awaited_is_not_followed(sent: dict[str, object]) -> None:
    assert t2g("submit", "--address", ADDRESS, "--no-wait", "--", "t2g", "doctor").exit_code == 0
    assert "followed" not in sent


def test_a_failed_job_fails_the_command(sent: dict[str, object]) -> None:
    sent["status"] = "FAILED"
    result = t2g("submit", "--address", ADDRESS, "--", "t2g", "doctor")
    assert result.exit_code == 1
    assert "job job-1 ended as FAILED; its log is above" in plain(result.stderr)
