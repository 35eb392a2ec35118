"""Engines that sleep, and actors of which many share a process."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from actors.cluster.handles import Handle
from actors.workers.rollout import RolloutActor
from benchmarks.scale import simulated
from benchmarks.scale.simulated import Addressed, SleepingEngine
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
    monkeypatch.setattr(simulated, "time", clock)
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


class Method:
    """Stands for a method of Ray's handle: remembers what it was called with."""

    def __init__(self, **options: object) -> None:
        self.given = options

    def options(self, **options: object) -> Method:
        return Method(**options)

    def remote(self, *arguments: object) -> object:
        return arguments, self.given


class Process:
    """Stands for Ray's handle of a process that holds several actors."""

    generate = Method()
    abort = Method()


def test_a_call_to_one_of_several_actors_names_it_and_is_counted() -> None:
    tally: Counter[str] = Counter()
    handle: Handle[RolloutActor] = Addressed("rollout/7", Process(), before=(7,), tally=tally)
    call: Any = handle.call(RolloutActor.abort, [3]).reference
    sampling = Sampling(group_size=2, temperature=1.0, max_new_tokens=5)
    stream: Any = handle.stream(RolloutActor.generate, [], sampling, 2).reference
    assert call == ((7, [3]), {})
    assert stream == ((7, [], sampling, 2), {"num_returns": "streaming"})
    assert tally == {"abort": 1, "generate": 1}
