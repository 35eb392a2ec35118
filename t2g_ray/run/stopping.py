"""Ctrl-C or a terminated job -> the run ends at the next safe moment, with a checkpoint.

Invariant: the first signal is remembered and interrupts nothing; the second one acts as usual.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class RunStopped(KeyboardInterrupt):
    """The run was asked to stop and did; its last checkpoint holds everything."""


class StopSignal:
    """While entered, SIGINT and SIGTERM set `is_set`; must be entered in the main thread."""

    def __init__(self) -> None:
        self.is_set = False
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.is_set

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        self._restore()
