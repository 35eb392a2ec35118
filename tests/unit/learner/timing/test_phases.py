"""Phases of a step by wall-clock, and by events of a device that is made up here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from t2g_ray.learner.timing.phases import MOST_SPANS, Phases

CPU = torch.device("cpu")


def test_each_phase_is_a_span_in_its_order() -> None:
    phases = Phases(CPU)
    phases.begin()
    before_s = time.time()
    for name in ("forward", "backward", "optimiser"):
        with phases.phase(name):
            time.sleep(0.01)
    spans = phases.spans("learner/0", 3)
    assert [span.name for span in spans] == ["forward", "backward", "optimiser"]
    assert {(span.actor, span.step) for span in spans} == {("learner/0", 3)}
    assert all(0.009 < span.end_s - span.start_s < 1 for span in spans)
    assert before_s - 0.1 <= spans[0].start_s
    assert all(a.end_s <= b.start_s for a, b in pairwise(spans))
    assert phases.spans("learner/0", 3) == []


def test_a_step_that_failed_leaves_nothing_to_the_next() -> None:
    phases = Phases(CPU)
    with phases.phase("forward"):
        pass
    with pytest.raises(RuntimeError), phases.phase("backward"):
        raise RuntimeError
    phases.begin()
    assert phases.spans("learner/0", 1) == []


def test_many_micro_batches_leave_one_span_a_phase() -> None:
    phases = Phases(CPU)
    phases.begin()
    for _ in range(MOST_SPANS):
        with phases.phase("forward"):
            time.sleep(0.001)
        with phases.phase("backward"):
            pass
    forward, backward = phases.spans("learner/0", 1)
    assert forward.args["times"] == backward.args["times"] == MOST_SPANS
    assert forward.args["seconds"] > 0.9 * 0.001 * MOST_SPANS
    assert forward.end_s - forward.start_s >= forward.args["seconds"]


class Event:
    """A CUDA event on a stream whose clock is `now_ms`."""

    now_ms = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at_ms = Event.now_ms

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return end.at_ms - self.at_ms


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.now_ms = 500.0
    yield Event


def test_on_a_gpu_phases_are_what_the_device_did(events: Any) -> None:
    phases = Phases(torch.device("cuda"))
    phases.begin()
    for name, taken_ms in (("forward", 30.0), ("backward", 60.0)):
        with phases.phase(name):
            events.now_ms += taken_ms
        events.now_ms += 10.0
    now_s = time.time()
    forward, backward = phases.spans("learner/1", 2)
    assert forward.end_s - forward.start_s == pytest.approx(0.03, abs=1e-6)
    assert backward.end_s - backward.start_s == pytest.approx(0.06, abs=1e-6)
    assert backward.start_s - forward.end_s == pytest.approx(0.01, abs=1e-6)
    assert backward.end_s == pytest.approx(now_s, abs=1.0)
