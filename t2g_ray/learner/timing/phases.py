"""The phases of a rank's step -> spans of the trace: forward, backward, optimiser, sync.

On a GPU a phase is what the device did between two CUDA events of its stream, however far ahead the
host was; on a CPU it is wall-clock. Invariant: nothing is waited for while a step is computed, and
a step leaves at most `MOST_SPANS`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.profiler import record_function

from t2g_ray.run.trace import Span

MOST_SPANS = 60
"""Of more micro-batches than fit, each phase is one span that says how often it ran and how long
all of it took."""


@dataclass(frozen=True, slots=True)
class _Ran:
    """Seconds from the first mark of the step."""

    name: str
    start_s: float
    end_s: float


class Phases:
    """The clock of one rank; `begin` starts a step, `spans` ends it."""

    def __init__(self, device: torch.device) -> None:
        self._clock: _Clock = _DeviceClock() if device.type == "cuda" else _HostClock()

    def begin(self) -> None:
        """Forget what was measured."""
        self._clock.clear()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block; a profile of the step shows it by its name too."""
        with self._clock.measure(name), record_function(name):
            yield

    def spans(self, actor: str, step: int) -> list[Span]:
        """The phases since `begin`, as spans of `actor`."""
        first_s, ran = self._clock.read()
        self._clock.clear()
        merged = _merged(ran) if len(ran) > MOST_SPANS else [(one, {}) for one in ran]
        return [
            Span(
                name=one.name,
                start_s=first_s + one.start_s,
                end_s=first_s + one.end_s,
                actor=actor,
                step=step,
                args=args,
            )
            for one, args in merged
        ]


def _merged(ran: Sequence[_Ran]) -> list[tuple[_Ran, dict[str, float]]]:
    """One for each name, from its first start to its last end."""
    by_name: dict[str, list[_Ran]] = {}
    for one in ran:
        by_name.setdefault(one.name, []).append(one)
    return [
        (
            _Ran(name, min(one.start_s for one in same), max(one.end_s for one in same)),
            {"times": len(same), "seconds": round(sum(o.end_s - o.start_s for o in same), 6)},
        )
        for name, same in by_name.items()
    ]


class _Clock(Protocol):
    def clear(self) -> None:
        """Forget everything."""

    def measure(self, name: str) -> AbstractContextManager[None]:
        """The block is a phase."""

    def read(self) -> tuple[float, list[_Ran]]:
        """When the step began, in seconds since the epoch, and what ran since."""


class _HostClock:
    """Wall-clock of this process."""

    def __init__(self) -> None:
        self._ran: list[tuple[str, float, float]] = []
        # Monotonic, so that a corrected system clock changes no duration.
        self._offset_s = time.time() - time.perf_counter()

    def clear(self) -> None:
        self._ran = []
        self._offset_s = time.time() - time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._ran.append((name, start, time.perf_counter()))

    def read(self) -> tuple[float, list[_Ran]]:
        return self._offset_s, [_Ran(*one) for one in self._ran]


class _DeviceClock:
    """Events of the current CUDA stream. Not yet run on a GPU."""

    def __init__(self) -> None:
        self._ran: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def clear(self) -> None:
        self._ran = []

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        start.record()
        yield
        end.record()
        self._ran.append((name, start, end))

    def read(self) -> tuple[float, list[_Ran]]:
        """The device's clock is tied to the host's at the end, when the stream has nothing left."""
        if not self._ran:
            return time.time(), []
        first, last = self._ran[0][1], self._ran[-1][2]
        last.synchronize()
        first_s = time.time() - first.elapsed_time(last) / 1000
        return first_s, [
            _Ran(name, first.elapsed_time(start) / 1000, first.elapsed_time(end) / 1000)
            for name, start, end in self._ran
        ]
