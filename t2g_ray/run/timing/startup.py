"""The start of a process by parts -> spans of the trace, and figures for report.json.

    process   asked for -> its actor's code begins to load (Ray, and the interpreter)
    imports   torch, vLLM, DeepSpeed, and the project
    the rest  what the process names itself with `part`

A process starts one actor, so that its parts are kept by the process. Invariant: parts follow one
another, so that those of an actor add up to at most the time until it answered; one that lies
within others is named so, and adds nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from t2g_ray.run.trace import Span

PREFIX = "start: "
"""Of the names of these spans."""
WITHIN = "of it "
"""Of the names of parts that lie within others."""
PROCESS, IMPORTS = "process", "imports"
DRIVER = "driver"
"""The actor of the spans of the program itself."""

LOADED_S = time.time()
"""When this process began to load what it runs: `actors.workers` imports this module first."""

_parts: list[tuple[str, float, float]] = []
_lock = threading.Lock()


def note(name: str, start_s: float, end_s: float) -> None:
    """Add a part that is over."""
    with _lock:
        _parts.append((name, start_s, max(start_s, end_s)))


def note_loaded() -> None:
    """The first line of an actor calls this: its code is loaded."""
    note(IMPORTS, LOADED_S, time.time())


@contextmanager
def part(name: str) -> Iterator[None]:
    """The block is a part of the start of this process."""
    start_s = time.time()
    try:
        yield
    finally:
        note(name, start_s, time.time())


def take_spans(actor: str) -> list[Span]:
    """The parts since the last call, as spans of `actor`."""
    with _lock:
        taken = list(_parts)
        _parts.clear()
    return [_span(actor, name, start_s, end_s) for name, start_s, end_s in taken]


def with_process(spans: Iterable[Span], asked: Mapping[str, float]) -> list[Span]:
    """Spans of starting actors, and for each of them the time from when it was asked for."""
    started = list(spans)
    first: dict[str, float] = {}
    for span in started:
        first[span.actor] = min(span.start_s, first.get(span.actor, span.start_s))
    made = [
        # Clocks of two nodes may differ by more than a process takes.
        _span(actor, PROCESS, min(asked_s, first[actor]), first[actor])
        for actor, asked_s in asked.items()
        if actor in first
    ]
    return [*made, *started]


def is_of_start(span: Span) -> bool:
    """Whether a span is a part of a start."""
    return span.name.startswith(PREFIX)


def seconds_by_actor(spans: Iterable[Span]) -> dict[str, dict[str, float]]:
    """Actor -> part -> seconds, in the order in which the parts began."""
    found: dict[str, dict[str, float]] = {}
    for span in sorted(filter(is_of_start, spans), key=lambda span: span.start_s):
        parts = found.setdefault(span.actor, {})
        name = span.name.removeprefix(PREFIX)
        parts[name] = round(parts.get(name, 0.0) + span.end_s - span.start_s, 3)
    return found


def start_line(spans: Iterable[Span]) -> str:
    """One line: what the driver did, and the actor that took longest of each role.

    Example: "started in 14.2 s: inputs 1.1, Ray 3.0, actors 9.9; learner/1 9.8 (process 1.9,
    imports 3.1, model 0.3, engine 2.2)".
    """
    started = [span for span in spans if is_of_start(span)]
    seconds = seconds_by_actor(started)
    own = seconds.pop(DRIVER, {})
    wall_s = max(s.end_s for s in started) - min(s.start_s for s in started)
    slowest: dict[str, str] = {}
    for actor in sorted(seconds, key=lambda actor: _sum_s(seconds[actor])):
        slowest[actor.partition("/")[0]] = actor
    lines = [
        f"{actor} {_sum_s(seconds[actor]):.1f} ({_listed(seconds[actor])})"
        for actor in slowest.values()
    ]
    return "; ".join([f"started in {wall_s:.1f} s: {_listed(own)}", *lines])


def _sum_s(parts: Mapping[str, float]) -> float:
    return sum(seconds for name, seconds in parts.items() if not name.startswith(WITHIN))


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())


def _span(actor: str, name: str, start_s: float, end_s: float) -> Span:
    return Span(name=PREFIX + name, start_s=start_s, end_s=end_s, actor=actor, step=0)
