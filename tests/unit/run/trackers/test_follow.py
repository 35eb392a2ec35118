"""Trackers that fail, hang and recover: the run goes on, and nothing is lost or silent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from t2g_ray.run.trackers import follow
from t2g_ray.run.trackers.follow import Follower
from t2g_ray.run.trackers.state import TrackerState, read_state
from t2g_ray.run.trackers.tracker import Row, Tracker
from tests.unit.run.trackers.parts import Writer


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOOK_S", 0.01)


class Store:
    """A tracker's server: keeps what open trackers give it, as long as it works."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.tables: list[list[float]] = []
        self.closed: list[bool] = []
        self.num_opened = self.num_failing = 0
        self.gate = threading.Event()
        self.gate.set()
        self.says_newest = False

    def open(self, state: TrackerState) -> Tracker:
        self.num_opened += 1
        return Open(self)


class Open:
    def __init__(self, store: Store) -> None:
        self.id, self._store = "run-1", store

    def newest_step(self) -> int | None:
        return max(self._store.steps, default=-1) if self._store.says_newest else None

    def take(self, step: int, numbers: Mapping[str, float], rows: Sequence[Row]) -> None:
        self._store.gate.wait(20)
        if self._store.num_failing:
            self._store.num_failing -= 1
            raise OSError("No space left on device")
        if numbers:
            self._store.steps.append(step)
        if rows:
            self._store.tables.append([float(row[0] or 0) for row in rows])

    def close(self, *, is_whole: bool) -> None:
        self._store.closed.append(is_whole)


def begin(writer: Writer, store: Store, state: TrackerState | None = None) -> Follower:
    follower = Follower("made-up", writer.run, store.open, state or TrackerState(id=""))
    follower.start()
    return follower


def finish(follower: Follower, within_s: float = 10.0) -> None:
    follower.ask_to_finish(is_whole=True)
    follower.wait(time.monotonic() + within_s)


def state_of(writer: Writer) -> TrackerState:
    state = read_state(writer.run, "made-up")
    assert state is not None
    return state


def test_a_failure_is_counted_told_once_and_made_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer, store = Writer(tmp_path), Store()
    store.num_failing = 2
    follower = begin(writer, store)
    for step in (1, 2, 3, 4):
        writer.step(step)
    finish(follower)
    assert store.steps == [1, 2, 3, 4]
    assert store.num_opened == 3
    assert store.closed == [False, False, True]
    assert state_of(writer) == TrackerState(id="run-1", step=4, rows_step=4, faults=2)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "tracker made-up failed: OSError: No space left on device; the run goes on" in told


def test_a_failure_after_a_resume_is_told_whatever_failed_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer, store = Writer(tmp_path), Store()
    store.num_failing = 2
    follower = begin(writer, store, TrackerState(id="run-1", faults=3))
    writer.step(1)
    writer.step(2)
    finish(follower)
    assert state_of(writer).faults == 5
    (told,) = [record.getMessage() for record in caplog.records]
    assert "tracker made-up failed: OSError: No space left on device; the run goes on" in told


def test_samples_of_an_evaluation_are_a_table_at_once(tmp_path: Path) -> None:
    writer, store = Writer(tmp_path), Store()
    follower = begin(writer, store)
    writer.step(1)
    writer.evaluation(2, 0.5, samples=3)
    writer.step(3)
    writer.step(4)
    finish(follower)
    assert store.tables == [[1.0, 2.0, 2.0, 2.0], [3.0, 4.0]]


def test_completions_of_training_come_in_tables_of_many(tmp_path: Path) -> None:
    writer, store = Writer(tmp_path), Store()
    for step in range(1, 41):
        writer.step(step)
    finish(begin(writer, store))
    assert [len(table) for table in store.tables] == [32, 8]


def test_a_tracker_that_hangs_delays_nothing_and_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, store = Writer(tmp_path), Store()
    store.gate.clear()
    follower = begin(writer, store)
    started = time.monotonic()
    for step in (1, 2, 3):
        writer.step(step)
    monkeypatch.setattr(follow, "STUCK_S", 0.05)
    while time.monotonic() < started + 5 and not caplog.records:
        follower.look()
        time.sleep(0.01)
    assert "it has not answered for 0.05 s" in caplog.records[0].getMessage()
    assert state_of(writer).faults == 1
    began_to_wait = time.monotonic()
    finish(follower, within_s=0.1)
    assert time.monotonic() - began_to_wait < 1
    assert "steps after -1 may be missing" in caplog.records[-1].getMessage()
    store.gate.set()


def test_a_tracker_that_was_waited_for_ends_its_thread(tmp_path: Path) -> None:
    writer, store = Writer(tmp_path), Store()
    store.num_failing = 10**6
    follower = begin(writer, store)
    writer.step(1)
    finish(follower, within_s=0.1)
    follower._thread.join(5)
    assert not follower._thread.is_alive()


def test_what_a_store_says_it_holds_counts_more_than_the_state(tmp_path: Path) -> None:
    writer, store = Writer(tmp_path), Store()
    store.steps, store.says_newest = [1, 2, 3], True
    for step in range(1, 6):
        writer.step(step)
    finish(begin(writer, store, TrackerState(id="run-1", step=2, rows_step=2)))
    assert store.steps == [1, 2, 3, 4, 5]
    assert store.tables == [[3.0, 4.0, 5.0]]


def test_a_full_disk_ends_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer, store = Writer(tmp_path), Store()
    caplog.set_level(logging.DEBUG)
    write = TrackerState.write
    num_left = [3]

    def fail_for_a_while(state: TrackerState, *where: object) -> None:
        if num_left[0]:
            num_left[0] -= 1
            raise OSError("No space left on device")
        write(state, *where)  # type: ignore[arg-type]

    monkeypatch.setattr(TrackerState, "write", fail_for_a_while)
    follower = begin(writer, store)
    writer.step(1)
    writer.step(2)
    finish(follower)
    assert store.steps[-1] == 2
    assert state_of(writer).faults >= 1
