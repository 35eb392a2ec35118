"""Jobs of a cluster: what became of them, their logs as they are written, and their orderly end.

A log is read from its beginning at every connection and shown from where the last one broke off,
so a connection that is lost costs nothing but the time until the next.

Invariant: what is shown of a log is the log, each character once and in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import requests
from ray.job_submission import JobDetails, JobSubmissionClient, JobType

from t2g_ray.run.job.state import Job

STOP_WAIT_S = 600
"""Seconds that a job has to end by itself once it is stopped. Ray's 3 seconds are less than a step
of a large model, and a killed job writes no checkpoint."""

ANSWER_S = 60.0
"""Seconds that one request may take. Ray's client waits for ever."""
SILENCE_S = 120.0
"""Seconds without a line after which a connection counts as dead: nobody tells when one is cut."""
PATIENCE_S = 900.0
"""Seconds without any answer after which following ends."""
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before each new attempt; the last one counts for all further ones."""

_CUT = (aiohttp.ClientError, requests.RequestException, ConnectionError, TimeoutError)
_OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

Show = Callable[[str], None]


class JobError(RuntimeError):
    """A job is not there, or nothing more can be learned of it."""


class Client(JobSubmissionClient):
    """Ray's client, whose requests end."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        return super()._do_request(*arguments, timeout=ANSWER_S, **options)


def connect(address: str) -> Client:
    """A client of the job API at an address, http://HEAD:8265.

    Raises ConnectionError where nothing answers. RAY_ADDRESS and RAY_API_SERVER_ADDRESS would
    silently take the place of the address that was given.
    """
    if "://" not in address:
        address = f"http://{address}"
    logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)
    with _without(_OVERRIDING):
        return Client(address)


def jobs(address: str) -> list[Job]:
    """All jobs that were submitted to a cluster, the latest first."""
    found = connect(address).list_jobs()
    listed = [_job(one) for one in found if one.type == JobType.SUBMISSION]
    return sorted(listed, key=lambda one: -(one.started_s or 0.0))


def job(name: str, *, address: str) -> Job:
    """One job. Raises JobError where the cluster has none of this name."""
    return _look(connect(address), name)


def log(name: str, *, address: str) -> str:
    """What a job wrote so far."""
    client = connect(address)
    _look(client, name)
    return str(client.get_job_logs(name))


def follow(name: str, *, address: str, show: Show, tell: Show, skip: int = 0) -> Job:
    """Show the log of a job from character `skip` on until the job ends; returns how it ended.

    A connection that breaks is made again, from where the log broke off; `tell` is told. Raises
    JobError for a job that is not there, and after PATIENCE_S without an answer.
    """
    client = connect(address)
    _look(client, name)
    heard = _Heard(show, skip)
    failures, shown = 0, 0
    while True:
        try:
            _look(client, name)
            heard.answer()
            is_whole = asyncio.run(_tail(client, name, heard))
            found = _look(client, name)
            if is_whole and found.has_ended:
                return found
            failures = 0
        except _CUT as cut:
            if heard.age_s() > PATIENCE_S:
                raise JobError(
                    f"the job API at {address} must answer, found nothing for {PATIENCE_S:g} s "
                    f"({type(cut).__name__}). The job may go on: t2g job logs {name} --follow "
                    f"--address {address}"
                ) from cut
            if heard.shown > shown:
                failures, shown = 0, heard.shown
            if not failures:
                tell(f"(the connection to {address} broke; the job goes on, trying again)")
            failures += 1
        time.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])


def stop(name: str, *, address: str, show: Show, tell: Show) -> Job:
    """Ask a job to end, show what it writes from then on, and wait until it has ended.

    A run ends after the step that it is in, with a checkpoint, and is killed after STOP_WAIT_S.
    Raises JobError for one that had ended before.
    """
    client = connect(address)
    before = _look(client, name)
    if before.has_ended:
        raise JobError(f"job {name} must run to be stopped, found {before.status}")
    skip = len(client.get_job_logs(name))
    client.stop_job(name)
    return follow(name, address=address, show=show, tell=tell, skip=skip)


class _Heard:
    """How far a log was shown, and when the API was last heard of."""

    def __init__(self, show: Show, skip: int) -> None:
        self._show = show
        self.shown = skip
        """Characters from the beginning of the log."""
        self._position = 0
        self._last_s = time.monotonic()

    def restart(self) -> None:
        """The log comes again from its beginning."""
        self._position = 0

    def take(self, text: str) -> None:
        """Show what was not shown before."""
        self.answer()
        fresh = text[max(0, self.shown - self._position) :]
        self._position += len(text)
        if fresh:
            self._show(fresh)
            self.shown = self._position

    def answer(self) -> None:
        """The API was heard of."""
        self._last_s = time.monotonic()

    def age_s(self) -> float:
        """Seconds since the API was heard of."""
        return time.monotonic() - self._last_s


async def _tail(client: Client, name: str, heard: _Heard) -> bool:
    """Whether the log was read to its end; False after SILENCE_S without a line.

    Raises one of _CUT where the connection breaks.
    """
    heard.restart()
    lines = aiter(client.tail_job_logs(name))
    while True:
        try:
            text = await asyncio.wait_for(anext(lines, None), SILENCE_S)
        except TimeoutError:
            return False
        except RuntimeError as error:  # what Ray makes of a connection that was cut
            raise ConnectionError(str(error)) from error
        if text is None:
            return True
        heard.take(text)


def _look(client: Client, name: str) -> Job:
    try:
        return _job(client.get_job_info(name))
    except RuntimeError as error:
        if "status code 404" in str(error):
            raise JobError(
                f"the cluster must have the job {name}, found none; `t2g job list` names all"
            ) from None
        raise ConnectionError(str(error)) from error


def _job(details: JobDetails) -> Job:
    return Job(
        name=str(details.submission_id),
        status=str(details.status),
        command=details.entrypoint,
        message=details.message or "",
        started_s=_seconds(details.start_time),
        ended_s=_seconds(details.end_time),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000.0


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """The block without some variables of this process."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
