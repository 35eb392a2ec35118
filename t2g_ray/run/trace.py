"""What each actor did when -> a Chrome trace (chrome://tracing, ui.perfetto.dev) and busy shares.

Spans carry seconds since the epoch, so those of all processes go into one file as they are.
Invariant: the trace file is valid JSON after every append, so a running job can be looked at;
memory does not grow with the length of the run.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

_HEAD = b"[\n"
_TAIL = b"\n]\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One piece of work of one actor.

    Example: Span(name="generate", start_s=10.0, end_s=10.5, actor="rollout/0", step=3).
    """

    name: str
    start_s: float
    end_s: float
    actor: str
    step: int
    args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.start_s <= self.end_s:
            raise ValueError(
                f"a span must not end before it starts, found {self.name} of {self.actor} "
                f"from {self.start_s} to {self.end_s}"
            )


class Tracer:
    """Collects the spans of one actor; all its threads may use it."""

    def __init__(self, actor: str) -> None:
        self.actor = actor
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    @contextmanager
    def span(self, name: str, *, step: int, **args: Any) -> Iterator[None]:
        """Record the time spent inside the block, also when it raises."""
        start_s = time.time()
        start_counter_s = time.perf_counter()
        try:
            yield
        finally:
            # The duration is monotonic: a corrected system clock cannot make it negative.
            end_s = start_s + (time.perf_counter() - start_counter_s)
            self.add(
                Span(
                    name=name, start_s=start_s, end_s=end_s, actor=self.actor, step=step, args=args
                )
            )

    def add(self, span: Span) -> None:
        with self._lock:
            self._spans.append(span)

    def extend(self, spans: Iterable[Span]) -> None:
        """Add spans that were measured elsewhere."""
        with self._lock:
            self._spans.extend(spans)

    def drain(self) -> list[Span]:
        """All spans since the last call, each handed out once."""
        with self._lock:
            spans, self._spans = self._spans, []
        return spans


class TraceFile:
    """A Chrome trace that grows by appending: one process row an actor, lanes for overlaps.

    An existing file is continued. The spans of steps that a resume repeats stay in it, because
    that time was spent; an event that a killed process left half written is removed.
    """

    def __init__(self, path: Path) -> None:
        self._actors: dict[str, int] = {}
        self._lanes: dict[str, list[list[int]]] = {}
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        self._end = self._find_end()
        if self._end == 0:
            self._file.write(_HEAD)
            self._end = len(_HEAD)
        self._write([])

    def append(self, spans: Iterable[Span]) -> None:
        """Write the spans of one or more actors; the file is valid JSON when this returns."""
        events: list[dict[str, Any]] = []
        for span in sorted(spans, key=lambda span: (span.start_s, -span.end_s)):
            if span.actor not in self._actors:
                self._actors[span.actor] = len(self._actors) + 1
                events.append(_row_name(span.actor, self._actors[span.actor]))
            events.append(self._event(span))
        self._write(events)

    def close(self) -> None:
        self._file.close()

    def _event(self, span: Span) -> dict[str, Any]:
        start_us, end_us = round(span.start_s * 1e6), round(span.end_s * 1e6)
        return {
            "name": span.name,
            "ph": "X",
            "ts": start_us,
            "dur": end_us - start_us,
            "pid": self._actors[span.actor],
            "tid": _lane(self._lanes.setdefault(span.actor, []), start_us, end_us),
            "args": {"step": span.step, **span.args},
        }

    def _write(self, events: list[dict[str, Any]]) -> None:
        body = ",\n".join(json.dumps(event) for event in events).encode()
        if body and self._end > len(_HEAD):
            body = b",\n" + body
        self._file.seek(self._end)
        self._file.write(body + _TAIL)
        self._file.truncate()
        self._file.flush()
        self._end += len(body)

    def _find_end(self) -> int:
        """Offset after the last complete event; also learns the rows that the file has."""
        offset = end = 0
        for line in self._file:
            offset += len(line)
            event = line.rstrip(b",\n")
            if line.endswith(b"\n") and (line == _HEAD or event.endswith(b"}")):
                end = offset if line == _HEAD else offset - len(line) + len(event)
                if b'"process_name"' in event:
                    row = json.loads(event)
                    self._actors[row["args"]["name"]] = row["pid"]
        return end


def _row_name(actor: str, pid: int) -> dict[str, Any]:
    return {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": actor}}


def _lane(lanes: list[list[int]], start_us: int, end_us: int) -> int:
    """The first lane where the span follows or lies inside what is there; lanes hold end times.

    Viewers nest the events of one lane and cannot show two that cross.
    """
    for index, open_ends in enumerate(lanes):
        while open_ends and open_ends[-1] <= start_us:
            open_ends.pop()
        if not open_ends or end_us <= open_ends[-1]:
            open_ends.append(end_us)
            return index
    lanes.append([end_us])
    return len(lanes) - 1


def busy_share(
    spans: Iterable[Span],
    actor_prefix: str,
    names: Iterable[str],
    window: tuple[float, float],
    *,
    num_actors: int | None = None,
) -> float:
    """Share of the window (start_s, end_s) in which the named work went on, in [0, 1].

    The overlapping spans of one actor count once; the share is the mean over the actors whose
    name starts with `actor_prefix`. Give `num_actors` when some may have done nothing, since
    those leave no spans; one that left since has spans and counts too. Idle share = 1 - busy share.
    """
    window_s = window[1] - window[0]
    if window_s <= 0:
        raise ValueError(f"the window must end after it starts, found {window}")
    wanted = frozenset(names)
    intervals: dict[str, list[tuple[float, float]]] = {}
    for span in spans:
        if span.name in wanted and span.actor.startswith(actor_prefix):
            intervals.setdefault(span.actor, []).append((span.start_s, span.end_s))
    count = max(num_actors or 0, len(intervals))
    busy_s = sum(_covered_s(items, window) for items in intervals.values())
    return busy_s / (window_s * count) if count else 0.0


def _covered_s(intervals: list[tuple[float, float]], window: tuple[float, float]) -> float:
    covered_s, reached_s = 0.0, window[0]
    for start_s, end_s in sorted(intervals):
        start_s, end_s = max(start_s, reached_s), min(end_s, window[1])
        if end_s > start_s:
            covered_s += end_s - start_s
            reached_s = end_s
    return covered_s
