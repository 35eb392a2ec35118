"""A log is shown once and in order, however often the connection breaks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from actors import jobs as module
from actors.jobs import JobError, connect, follow, stop

ADDRESS = "http://head:8265"
LOG = [f"line {number}\n" for number in range(6)]


SILENCE = "nothing more comes, and nobody says so"


class FakeApi:
    """A job API whose connections break where the test says."""

    def __init__(self, *connections: list[str | Exception]) -> None:
        self.connections = list(connections)
        self.status = "RUNNING"
        self.stopped = False

    def get_job_info(self, name: str) -> Any:
        if name != "job-1":
            raise RuntimeError(f"Request failed with status code 404: Job {name} does not exist.")
        return SimpleNamespace(
            submission_id=name,
            status=JobStatus(self.status),
            entrypoint="t2g doctor",
            message=None,
            start_time=1000,
            end_time=None,
        )

    def get_job_logs(self, name: str) -> str:
        return "".join(LOG[:4])

    def stop_job(self, name: str) -> bool:
        self.stopped = True
        return True

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        for piece in self.connections.pop(0):
            if isinstance(piece, Exception):
                raise piece
            if piece is SILENCE:
                await asyncio.sleep(60)
            yield piece
        if not self.connections:
            self.status = "STOPPED" if self.stopped else "SUCCEEDED"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return monkeypatch


def followed(api: FakeApi, patch: pytest.MonkeyPatch, **options: Any) -> tuple[str, str, list[str]]:
    """How the job ended, what was shown, and what was told beside it."""
    shown: list[str] = []
    told: list[str] = []
    patch.setattr(module, "connect", lambda address: api)
    ended = follow("job-1", address=ADDRESS, show=shown.append, tell=told.append, **options)
    return ended.status, "".join(shown), told


CUTS = [ConnectionError("refused"), RuntimeError("WebSocket connection closed"), TimeoutError()]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: type(cut).__name__)
def test_a_log_goes_on_where_the_connection_broke(
    cut: Exception, patient: pytest.MonkeyPatch
) -> None:
    other_pieces = ["".join(LOG[:3])[:10], "".join(LOG)[10:]]
    api = FakeApi([*LOG[:3], cut], [cut], ["".join(LOG[:4]), cut], other_pieces)
    status, shown, _ = followed(api, patient)
    assert (status, shown) == ("SUCCEEDED", "".join(LOG))


def test_a_break_is_told_once(patient: pytest.MonkeyPatch) -> None:
    cut = ConnectionError("refused")
    _, _, told = followed(FakeApi([cut], [cut], [cut], LOG), patient)
    assert told == [f"(the connection to {ADDRESS} broke; the job goes on, trying again)"]


def test_a_connection_that_ends_before_the_job_is_made_again(patient: pytest.MonkeyPatch) -> None:
    status, shown, _ = followed(FakeApi(LOG[:2], LOG[:5], LOG), patient)
    assert (status, shown) == ("SUCCEEDED", "".join(LOG))


def test_a_connection_that_is_dead_without_a_word_is_made_again(
    patient: pytest.MonkeyPatch,
) -> None:
    patient.setattr(module, "SILENCE_S", 0.05)
    status, shown, told = followed(FakeApi([*LOG[:2], SILENCE], LOG), patient)
    assert (status, shown, told) == ("SUCCEEDED", "".join(LOG), [])


def test_a_job_that_is_not_there_is_no_broken_connection(patient: pytest.MonkeyPatch) -> None:
    patient.setattr(module, "connect", lambda address: FakeApi())
    with pytest.raises(JobError, match="must have the job job-2, found none"):
        follow("job-2", address=ADDRESS, show=print, tell=print)


def test_without_an_answer_following_ends_and_says_how_to_go_on(
    patient: pytest.MonkeyPatch,
) -> None:
    patient.setattr(module, "PATIENCE_S", -1.0)
    with pytest.raises(JobError, match="t2g job logs job-1 --follow --address"):
        followed(FakeApi([ConnectionError("refused")]), patient)


def test_a_stopped_job_shows_its_last_lines_and_is_waited_for(patient: pytest.MonkeyPatch) -> None:
    api, shown = FakeApi(LOG), list[str]()
    patient.setattr(module, "connect", lambda address: api)
    ended = stop("job-1", address=ADDRESS, show=shown.append, tell=print)
    assert (ended.status, api.stopped) == ("STOPPED", True)
    assert "".join(shown) == "".join(LOG[4:])


def test_a_job_that_has_ended_cannot_be_stopped(patient: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    api.status = "FAILED"
    patient.setattr(module, "connect", lambda address: api)
    with pytest.raises(JobError, match="must run to be stopped, found FAILED"):
        stop("job-1", address=ADDRESS, show=print, tell=print)
    assert not api.stopped


def test_the_address_that_is_given_is_the_one_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:1")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
        connect("127.0.0.1:9")
    assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379"
