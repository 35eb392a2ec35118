"""An engine whose sequences share every pass: ends, pauses and versions by hand."""

from __future__ import annotations

import pytest

from benchmarks.scale.virtual.costs import EngineCosts
from benchmarks.scale.virtual.engine import Job, VirtualEngine

# A pass takes 1 s and 1 s more for each sequence: one alone writes a token in 2 s, two in 3 s.
COSTS = EngineCosts(pass_s=1.0, sequence_s=1.0, most_sequences=2, load_s=5.0, transfer_s=0.0)


def job(index: int, *lengths: int, min_version: int = 0) -> Job:
    return Job(index, lengths, min_version, len(lengths))


def ends(engine: VirtualEngine, until_s: float) -> dict[int, float]:
    """Index of a group -> when it was whole."""
    found: dict[int, float] = {}
    while (at_s := engine.next_s()) is not None and at_s <= until_s:
        found |= {one.index: at_s for one in engine.finished(at_s)}
    return found


def test_sequences_slow_each_other_and_a_group_is_whole_with_its_longest() -> None:
    engine = VirtualEngine(COSTS)
    engine.add(job(0, 10, 4), 0.0)
    # Four passes of 3 s, then six of 2 s.
    assert ends(engine, 100.0) == {0: 24.0}
    assert (engine.tokens, engine.busy_s) == (14, 24.0)


def test_what_does_not_fit_waits_for_a_place() -> None:
    engine = VirtualEngine(COSTS)
    engine.add(job(0, 4), 0.0)
    engine.add(job(1, 8), 0.0)
    engine.add(job(2, 2), 0.0)
    # 0 ends after 4 passes of 3 s; 2 takes its place for 2 more; then 1 has 2 passes of 2 s left.
    assert ends(engine, 100.0) == {0: 12.0, 2: 18.0, 1: 22.0}


def test_a_slow_engine_takes_longer_for_all() -> None:
    engine = VirtualEngine(COSTS, slowness=3.0)
    engine.add(job(0, 10), 0.0)
    assert ends(engine, 100.0) == {0: 60.0}


def test_a_load_holds_up_what_is_written_and_writes_on_under_its_version() -> None:
    engine = VirtualEngine(COSTS)
    engine.add(job(0, 10), 0.0)
    engine.load(1, 6.0)
    (found,) = [one for at in (25.0,) for one in engine.finished(at)]
    assert found.versions == {0: 3, 1: 7}
    assert engine.busy_s == 20.0


def test_a_group_is_held_back_until_its_version_is_there() -> None:
    engine = VirtualEngine(COSTS)
    engine.add(job(0, 1, min_version=1), 0.0)
    assert engine.next_s() is None
    engine.load(1, 10.0)
    assert engine.next_s() == pytest.approx(17.0)
    (found,) = engine.finished(17.0)
    assert found.versions == {1: 1}
