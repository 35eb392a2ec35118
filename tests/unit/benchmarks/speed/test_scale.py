"""The engine that a measurement of scale simulates."""

from __future__ import annotations

import pytest

from benchmarks.speed import scale
from benchmarks.speed.scale import SleepingEngine
from t2g_ray.rollout.spec import Sampling
from t2g_ray.types import Prompt


class Clock:
    """Stands for the module `time`: sleeping moves it on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_simulated_engine_keeps_its_pace_when_its_caller_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(scale, "time", clock)
    engine = SleepingEngine(3, group_s=1.0)
    sampling = Sampling(group_size=2, temperature=1.0, max_new_tokens=5)
    for index in range(4):
        engine.add(Prompt(index=index, token_ids=(1,)), sampling)
    groups, times_s = [], []
    for wait_s in (0.0, 1.5, 0.0, 0.0):
        clock.sleep(wait_s)
        groups += engine.step()
        times_s.append(clock.now_s)
    assert [group.prompt.index for group in groups] == [0, 1, 2, 3]
    assert [len(group.completions) for group in groups] == [2, 2, 2, 2]
    # Due at 1, 2, 3 and 4 s; the second is fetched late, at 2.5 s, and delays nothing.
    assert times_s == [1.0, 2.5, 3.0, 4.0]
    assert not engine.is_busy
