"""What counts as the speed of many actors."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.scale import messages
from benchmarks.scale.messages import Rounds, measure


class Clock:
    """Stands for the module `time`: sleeping moves it on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def process_time(self) -> float:
        return self.now_s


class Groups:
    """Stands for RayGroups: 4 groups a second, and a driver that takes its time for a step."""

    def __init__(self, clock: Clock, driver_s: float, missing: int = 0) -> None:
        self.clock, self.driver_s, self.missing = clock, driver_s, missing
        self.begun = self.taken = 0
        self.most_ahead = 0
        self.ready_s = 0.0

    def start(self, positions: range, *, min_version: int) -> None:
        self.begun += len(positions)
        self.most_ahead = max(self.most_ahead, self.begun - self.taken)
        # Engines that stood still go on from now.
        self.ready_s = max(self.ready_s, self.clock.now_s) + len(positions) / 4

    def take(self, count: int, **_: Any) -> list[object]:
        rest = self.begun - self.taken - count
        self.clock.now_s = max(self.clock.now_s, self.ready_s - rest / 4) + self.driver_s
        self.taken += count
        return [object()] * (count - self.missing)


@pytest.mark.parametrize("driver_s", [0.0, 0.1, 0.5, 1.0])
def test_a_slow_driver_shows_with_one_step_queued_and_is_hidden_with_two(
    monkeypatch: pytest.MonkeyPatch, driver_s: float
) -> None:
    rates = {}
    for queued in (1, 2):
        clock = Clock()
        monkeypatch.setattr(messages, "time", clock)
        groups: Any = Groups(clock, driver_s)
        plan = Rounds(runs=3, rounds=10, queued=queued, count=8)
        found = measure(groups, plan)
        rates[queued] = found.rates
        assert groups.most_ahead == queued * 8 and groups.begun == groups.taken
        assert len(found.costs_ms) == len(found.growth_mib) == 3
    # Eight groups take 2 s.
    assert rates[1] == pytest.approx(3 * [8 / (2 + driver_s)])
    assert rates[2] == pytest.approx(3 * [4.0], rel=0.02)


@pytest.mark.parametrize("missing", [1, 7, 8, -1])
def test_groups_that_never_came_are_no_speed(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    clock = Clock()
    monkeypatch.setattr(messages, "time", clock)
    groups: Any = Groups(clock, 0.0, missing)
    with pytest.raises(ValueError, match=f"8 groups must be measured, found {8 - missing}"):
        measure(groups, Rounds(runs=3, rounds=2, queued=1, count=8))
