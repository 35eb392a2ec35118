"""All engines of a world, and what comes next on any of them: an end, a pause or a new version.

Invariant: everything is done in the order of its time, and nothing before its time has come.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random

from benchmarks.scale.virtual.costs import World
from benchmarks.scale.virtual.engine import Job, VirtualEngine


class Engines:
    """Engines by the numbers of their actors; they join and leave at the end, as in a fleet."""

    def __init__(self, world: World, chance: Random, now_s: float) -> None:
        self._world, self._chance = world, chance
        self._engines: list[VirtualEngine] = []
        self._ends: list[tuple[float, int]] = []
        """(time, engine) of ends of sequences; one that is no longer in `_noted` is void."""
        self._noted: dict[int, float] = {}
        self._pauses: list[tuple[float, int]] = []
        self._loads: list[tuple[float, int]] = []
        """(time, version) of versions on their way to all engines."""
        self._version = -1
        self._left_busy_s = 0.0
        while len(self) < world.actors:
            self.join(now_s)

    def __len__(self) -> int:
        return len(self._engines)

    @property
    def busy_s(self) -> float:
        """Seconds in which they wrote, those of engines that have left included."""
        return self._left_busy_s + sum(engine.busy_s for engine in self._engines)

    def join(self, now_s: float) -> None:
        """One more engine, with the version that the others have."""
        faults = self._world.faults
        is_slow = self._chance.random() < faults.slow_share
        engine = VirtualEngine(self._world.engine, faults.slow_factor if is_slow else 1.0)
        engine.version = -1
        if self._version >= 0:
            engine.load(self._version, now_s)
        self._engines.append(engine)
        self._plan_pause(len(self) - 1, now_s)

    def leave(self) -> None:
        """The last engine ends; it must have written everything."""
        self._left_busy_s += self._engines.pop().busy_s
        self._noted.pop(len(self), None)

    def add(self, number: int, job: Job, now_s: float) -> None:
        """Give an engine a group."""
        self._engines[number].add(job, now_s)
        self._note_end(number)

    def send(self, version: int, arrives_s: float) -> None:
        """Put a version on its way to all of them."""
        heappush(self._loads, (arrives_s, version))

    def next_s(self) -> float:
        """When something happens next."""
        heads = [heap[0][0] for heap in (self._ends, self._pauses, self._loads) if heap]
        return min(heads, default=float("inf"))

    def run_until(self, now_s: float) -> list[Job]:
        """Do everything that is due by now; returns the groups that became whole."""
        whole: list[Job] = []
        while (at_s := self.next_s()) <= now_s:
            if self._loads and self._loads[0][0] == at_s:
                whole += self._load(*heappop(self._loads))
            elif self._pauses and self._pauses[0][0] == at_s:
                self._pause(*heappop(self._pauses))
            else:
                whole += self._end(*heappop(self._ends))
        return whole

    def _load(self, at_s: float, version: int) -> list[Job]:
        whole: list[Job] = []
        self._version = version
        for number, engine in enumerate(self._engines):
            whole += engine.finished(at_s)
            engine.load(version, at_s)
            self._note_end(number)
        return whole

    def _pause(self, at_s: float, number: int) -> None:
        if number < len(self):
            self._engines[number].pause(self._world.faults.hiccup_s, at_s)
            self._note_end(number)
            self._plan_pause(number, at_s)

    def _plan_pause(self, number: int, now_s: float) -> None:
        every_s = self._world.faults.hiccup_every_s
        if every_s:
            heappush(self._pauses, (now_s + self._chance.expovariate(1 / every_s), number))

    def _end(self, at_s: float, number: int) -> list[Job]:
        if self._noted.get(number) != at_s:
            return []
        del self._noted[number]
        whole = list(self._engines[number].finished(at_s))
        self._note_end(number)
        return whole

    def _note_end(self, number: int) -> None:
        coming_s = self._engines[number].next_s()
        if coming_s is not None and self._noted.get(number) != coming_s:
            self._noted[number] = coming_s
            heappush(self._ends, (coming_s, number))
