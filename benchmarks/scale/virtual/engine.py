"""An engine that writes many sequences at once, on a clock that somebody else moves.

All sequences in the engine grow by one token a pass, so one number, the passes so far, says how far
each of them is: it ends when that number reaches its own. Between two such ends a pass takes the
same time, and nothing needs to be computed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from benchmarks.scale.virtual.costs import EngineCosts

_MOST_VERSIONS = 64
"""More than any sequence lives to see."""


@dataclass(slots=True)
class Job:
    """A group under way: lengths of its completions, and the versions that wrote them."""

    index: int
    lengths: tuple[int, ...]
    min_version: int
    num_left: int
    versions: dict[int, int] = field(default_factory=dict)
    """Version -> tokens that it wrote."""
    begun_s: float = 0.0


class VirtualEngine:
    """Sequences that wait or are written, first come first served."""

    def __init__(self, costs: EngineCosts, slowness: float = 1.0) -> None:
        self._costs, self._slowness = costs, slowness
        self._held: list[Job] = []
        self._queue: deque[tuple[Job, int]] = deque()
        self._running: list[tuple[float, int, float, Job]] = []
        """(passes at its end, tie breaker, passes at its start, job)."""
        self._passes = 0.0
        self._now_s = 0.0
        """When the passes were counted; later than now while the engine is paused."""
        self._number = 0
        self.version = 0
        self._changes = [(0.0, 0)]
        """(passes, version) of every change of the weights, ascending."""
        self.busy_s = 0.0
        self.tokens = 0

    def add(self, job: Job, now_s: float) -> None:
        """Take a group on; it waits for its version."""
        self._move(now_s)
        self._held.append(job)
        self._admit()

    def load(self, version: int, now_s: float) -> None:
        """Pause for the load of a version, which writes from then on."""
        self.pause(self._costs.load_s, now_s)
        self.version = version
        self._changes = [*self._changes[-_MOST_VERSIONS:], (self._passes, version)]
        self._admit()

    def pause(self, seconds: float, now_s: float) -> None:
        """Write nothing for so long."""
        self._move(now_s)
        self._now_s = max(self._now_s, now_s) + seconds

    def next_s(self) -> float | None:
        """When the next sequence ends; None with nothing to write."""
        if not self._running:
            return None
        return self._now_s + (self._running[0][0] - self._passes) * self._pass_s()

    def finished(self, now_s: float) -> Iterator[Job]:
        """The groups of which the last completion has ended by now."""
        while (end_s := self.next_s()) is not None and end_s <= now_s:
            self._move(end_s)
            end, _, start, job = heappop(self._running)
            self._passes = end
            self._note(job, start, end)
            job.num_left -= 1
            self._fill()
            if not job.num_left:
                yield job
        self._move(now_s)
        if not self._running:
            self._changes = self._changes[-1:]

    def _pass_s(self) -> float:
        costs = self._costs
        return self._slowness * (costs.pass_s + costs.sequence_s * len(self._running))

    def _move(self, now_s: float) -> None:
        if now_s <= self._now_s:
            return
        if self._running:
            self._passes += (now_s - self._now_s) / self._pass_s()
            self.busy_s += now_s - self._now_s
        self._now_s = now_s

    def _admit(self) -> None:
        ready = [job for job in self._held if job.min_version <= self.version]
        self._held = [job for job in self._held if job.min_version > self.version]
        self._queue.extend((job, length) for job in ready for length in job.lengths)
        self._fill()

    def _fill(self) -> None:
        while self._queue and len(self._running) < self._costs.most_sequences:
            job, length = self._queue.popleft()
            self._number += 1
            heappush(self._running, (self._passes + length, self._number, self._passes, job))

    def _note(self, job: Job, start: float, end: float) -> None:
        """Count the tokens between two numbers of passes by the version that wrote them."""
        self.tokens += round(end - start)
        at = bisect_right(self._changes, start, key=lambda change: change[0]) - 1
        edges = [(start, self._changes[at][1])]
        edges += [change for change in self._changes[at + 1 :] if change[0] < end]
        for number, (edge, version) in enumerate(edges):
            upto = edges[number + 1][0] if number + 1 < len(edges) else end
            tokens = round(upto) - round(edge)
            job.versions[version] = job.versions.get(version, 0) + tokens
