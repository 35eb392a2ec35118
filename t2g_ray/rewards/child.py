"""The process that runs a reward function of the user; `rewards.custom` starts it.

It imports nothing of the project, so that it starts at once.

It first says how the function is called, then answers each call with one outcome for each
completion: a finite float, or a string that says what went wrong. It ends when the pipe closes, and
a thread ends it, with all that it started, when the parent is gone while the function hangs.

How a function is called follows from its signature alone: a parameter `completions` takes all texts
of a prompt and the function returns as many numbers; a parameter `completion` takes one text and
the function returns one number. An async function of the second kind runs for all texts of a prompt
at the same time. It also gets, as keywords, `predicted` and the columns of the record: those that
it names, or all of them where it takes **keywords.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from multiprocessing.connection import Connection
from numbers import Real
from typing import Any, Literal

CallMode = Literal["one", "all", "concurrent"]
"""How the function is called: for each completion; for all of a prompt; for each, concurrently."""
RewardOutcome = float | str

BATCH, SINGLE = "completions", "completion"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardCall:
    """Completions of one prompt, the graphs parsed from them (None: no graph), and its columns."""

    completions: Sequence[str]
    predicted: Sequence[dict[str, Any] | None]
    columns: dict[str, Any]


class LoadError(ValueError):
    """There is no usable function at the import path."""


class RewardFunction:
    """A user's function and how it is called. Raises LoadError."""

    def __init__(self, path: str) -> None:
        self._function = _load(path)
        parameters = inspect.signature(self._function).parameters
        texts = [name for name in (BATCH, SINGLE) if name in parameters]
        if len(texts) != 1:
            raise LoadError(
                f"{path} must take either `completions` (all texts of a prompt) or `completion` "
                f"(one text), found the parameters {list(parameters)}"
            )
        self.is_batch = texts == [BATCH]
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._names = None if takes_all else frozenset(parameters)
        self._is_async = any(
            map(inspect.iscoroutinefunction, (self._function, type(self._function).__call__))
        )
        self._runner = asyncio.Runner()

    @property
    def mode(self) -> CallMode:
        """How the function is called."""
        return "all" if self.is_batch else "concurrent" if self._is_async else "one"

    def __call__(self, call: RewardCall, report: Callable[[int, RewardOutcome], None]) -> None:
        """Report the outcome of each completion by its index, as soon as it is known."""
        if self._is_async:
            self._runner.run(self._run_async(call, report))
        elif self.is_batch:
            _report_all(self._function(**self._batch(call)), len(call.completions), report)
        else:
            for index in range(len(call.completions)):
                report(index, _outcome(self._function(**self._single(call, index))))

    async def _run_async(
        self, call: RewardCall, report: Callable[[int, RewardOutcome], None]
    ) -> None:
        if self.is_batch:
            values = await self._function(**self._batch(call))
            _report_all(values, len(call.completions), report)
            return

        async def one(index: int) -> None:
            try:
                report(index, _outcome(await self._function(**self._single(call, index))))
            except Exception:
                report(index, traceback.format_exc())

        await asyncio.gather(*(one(index) for index in range(len(call.completions))))

    def _batch(self, call: RewardCall) -> dict[str, Any]:
        texts = {BATCH: list(call.completions), "predicted": list(call.predicted)}
        return self._known({**call.columns, **texts})

    def _single(self, call: RewardCall, index: int) -> dict[str, Any]:
        text = {SINGLE: call.completions[index], "predicted": call.predicted[index]}
        return self._known({**call.columns, **text})

    def _known(self, keywords: dict[str, Any]) -> dict[str, Any]:
        if self._names is None:
            return keywords
        return {name: value for name, value in keywords.items() if name in self._names}


def main() -> None:
    """Serve calls until the pipe closes. First message: the mode, or the LoadError.

    Arguments of the process: import path, file descriptor of the pipe, id of the parent.
    """
    path, file_descriptor, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection: Connection[Any, Any] = Connection(file_descriptor)
    try:
        function = RewardFunction(path)
    except LoadError as error:
        connection.send(error)
        return
    connection.send(function.mode)
    while True:
        try:
            call: RewardCall = connection.recv()
        except EOFError:
            return
        _serve(function, call, connection)


def _serve(function: RewardFunction, call: RewardCall, connection: Connection[Any, Any]) -> None:
    unanswered = set(range(len(call.completions)))

    def report(index: int, outcome: RewardOutcome) -> None:
        unanswered.discard(index)
        connection.send((index, outcome))

    try:
        function(call, report)
    except Exception:
        message = traceback.format_exc()
        for index in sorted(unanswered):
            connection.send((index, message))


def _load(path: str) -> Callable[..., Any]:
    module_name, _, name = path.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:  # whatever the user's module does when it is imported
        raise LoadError(
            f"{path} must be importable as module:function, found {type(error).__name__}: {error}"
        ) from error
    if not callable(value):
        raise LoadError(f"{path} must be a function, found {type(value).__name__}")
    function: Callable[..., Any] = value
    return function


def _report_all(values: Any, count: int, report: Callable[[int, RewardOutcome], None]) -> None:
    values = list(values)
    if len(values) != count:
        raise ValueError(f"must return {count} numbers, one a completion, found {len(values)}")
    for index, value in enumerate(values):
        report(index, _outcome(value))


def _outcome(value: object) -> RewardOutcome:
    if not isinstance(value, Real) or isinstance(value, bool):
        return f"a reward must be a number, found {type(value).__name__}: {value!r:.80}"
    number = float(value)
    return number if isfinite(number) else f"a reward must be finite, found {number}"


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(os.getpgrp(), signal.SIGKILL)
