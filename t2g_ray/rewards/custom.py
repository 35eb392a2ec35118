"""Rewards of the user's own, run in child processes: completions in, finite numbers or tags out.

Invariant: a call ends within its deadline. A process that hangs or dies is killed with all that it
started, its completions are tagged "timeout" or "grader_error", and the next call has a new
process; nothing that a user's function does becomes a reward of 0.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import isfinite
from multiprocessing.connection import Connection
from typing import Any, Literal

from t2g_ray.config.rewards import CustomReward
from t2g_ray.graph.parsing import parse_completion
from t2g_ray.records.jsonl import record_to_dict
from t2g_ray.rewards.child import CallMode, LoadError, RewardCall, RewardOutcome
from t2g_ray.rewards.completion import masked_reward
from t2g_ray.types import Record, Reward

START_S = 120.0
"""Seconds a child may take to import the user's module."""

_MAIN = "from t2g_ray.rewards.child import main; main()"

FailureTag = Literal["grader_error", "timeout"]

_logger = logging.getLogger(__name__)


class CustomRewards:
    """The user's functions of one reward actor, a process each. ValueError if one cannot start.

    Modules are looked up in `folder` first, then where this process looks.
    """

    def __init__(self, rewards: Sequence[CustomReward], folder: str) -> None:
        self._graders = [_Grader(reward, folder) for reward in rewards]

    def add(
        self, rewards: Sequence[Reward], texts: Sequence[str], record: Record, *, thinking: bool
    ) -> list[Reward]:
        """Each reward with the user's parts added to it, or masked where one of them failed."""
        graphs = [parse_completion(text, thinking=thinking).graph for text in texts]
        call = RewardCall(
            completions=texts,
            predicted=[None if graph is None else graph.to_dict() for graph in graphs],
            columns=record_to_dict(record),
        )
        added = list(rewards)
        for grader in self._graders:
            values = grader.grade(call)
            pairs = zip(added, values, strict=True)
            added = [_with_part(reward, grader.reward, value) for reward, value in pairs]
        return added

    def close(self) -> None:
        """End all processes."""
        for grader in self._graders:
            grader.close()


def check_custom(rewards: Sequence[CustomReward], folder: str) -> None:
    """Import each function once, in a process of its own. Raises ValueError where one cannot be."""
    CustomRewards(rewards, folder).close()


def _with_part(reward: Reward, custom: CustomReward, value: float | FailureTag) -> Reward:
    if reward.tag in ("grader_error", "timeout"):
        return reward
    if isinstance(value, str):
        return masked_reward(value)
    total = reward.total + custom.weight * value
    if not isfinite(total):
        _logger.error("%s: weight times value must be finite, found %g", custom.path, value)
        return masked_reward("grader_error")
    return replace(reward, total=total, parts={**reward.parts, custom.name: value})


class _Grader:
    """One function and the process that runs it."""

    def __init__(self, reward: CustomReward, folder: str) -> None:
        self.reward = reward
        self._folder = folder
        self._child: _Child | None = _Child(reward.path, folder)

    def grade(self, call: RewardCall) -> list[float | FailureTag]:
        """The outcome of every completion; takes at most a deadline a call."""
        values: list[float | FailureTag] = []
        while len(values) < len(call.completions):
            first = len(values)
            try:
                child = self._child = self._child or _Child(self.reward.path, self._folder)
            except LoadError:
                _logger.exception("%s did not start again", self.reward.path)
                return values + ["grader_error"] * (len(call.completions) - first)
            last = first + 1 if child.mode == "one" else len(call.completions)
            part = RewardCall(
                completions=call.completions[first:last],
                predicted=call.predicted[first:last],
                columns=call.columns,
            )
            values += self._call(child, part)
        return values

    def _call(self, child: _Child, call: RewardCall) -> list[float | FailureTag]:
        outcomes: dict[int, RewardOutcome] = {}
        failure: FailureTag = "grader_error"  # of a completion without an answer
        try:
            with child.within(self.reward.deadline_s):
                child.connection.send(call)
                while len(outcomes) < len(call.completions):
                    index, outcome = child.connection.recv()
                    outcomes[index] = outcome
                    if isinstance(outcome, str):
                        _logger.error("%s failed on a completion: %s", self.reward.path, outcome)
        except (EOFError, OSError):
            if child.is_late:
                failure = "timeout"
            _logger.error(
                "%s must answer within %g s, found %s; %d completions are masked",
                self.reward.path,
                self.reward.deadline_s,
                "nothing" if child.is_late else "that its process ended",
                len(call.completions) - len(outcomes),
            )
            self.close()
        if child.is_late:  # perhaps just after the last answer
            self.close()
        values: list[float | FailureTag] = []
        for index in range(len(call.completions)):
            outcome = outcomes.get(index)
            if isinstance(outcome, float):
                values.append(outcome)
            else:
                values.append("grader_error" if outcome is not None else failure)
        return values

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._child is not None:
            self._child.close()
            self._child = None


class _Child:
    """A started process of `child`, its function loaded. Raises LoadError."""

    def __init__(self, path: str, folder: str) -> None:
        self._socket, theirs = socket.socketpair()
        self.connection: Connection[Any, Any] = Connection(os.dup(self._socket.fileno()))
        self.is_late = False
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, path, str(theirs.fileno()), str(os.getpid())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            with self.within(START_S):
                answer = self.connection.recv()
        except (EOFError, OSError):
            late = f"nothing within {START_S:g} s"
            answer = LoadError(
                f"{path} must load in a process of its own, found "
                f"{late if self.is_late else 'the end of that process'}; its output says more"
            )
        if isinstance(answer, LoadError):
            self.close()
            raise answer
        self.mode: CallMode = answer

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Kill the process if the block takes longer; what the block waits for fails then."""
        timer = threading.Timer(seconds, self._stop_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _stop_late(self) -> None:
        self.is_late = True
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(OSError):
            # Ends every wait on the connection, whoever else still holds its other end.
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the process and all that it started."""
        self._kill()
        self._process.wait()
        self.connection.close()
        self._socket.close()
