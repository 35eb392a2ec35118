"""A thread for each tracker: reads the run's files and hands on step after step.

Invariant: nothing that a tracker does, or does not do, delays or ends a run, and no failure is
silent: it is counted in the tracker's state file, told when it first happens after a start or
resume, and told again at the end where steps are missing. After a failure the tracker is opened
anew and goes on where it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from t2g_ray.run.folder import RunDir
from t2g_ray.run.trackers.reading import RunReader, StepRecord
from t2g_ray.run.trackers.state import TrackerState
from t2g_ray.run.trackers.tracker import Row, Tracker

LOOK_S = 1.0
STUCK_S = 60.0
"""Seconds that a tracker may take for one step before that counts as a fault."""
MAX_PAUSE_S = 60.0
_MAX_ROWS = 32
"""Completions of training that make a table; those of an evaluation are one at once."""

_log = logging.getLogger(__name__)

Open = Callable[[TrackerState], Tracker]
"""Opens the run that a state names, or begins one."""


class Follower:
    """Feeds one tracker. `state` says what it has; `finish` ends the thread."""

    def __init__(self, name: str, run: RunDir, open: Open, state: TrackerState) -> None:
        self.name = name
        self._run, self._open, self._state = run, open, state
        self._faults_before = state.faults
        self._reader = RunReader(run)
        self._todo: list[StepRecord] = []
        self._rows: list[Row] = []
        self._tracker: Tracker | None = None
        self._is_whole = False
        self._num_failed = 0
        """Tries since the last one that went well."""
        self._busy_since: float | None = None
        self._is_over = threading.Event()
        self._is_done = threading.Event()
        self._lock = threading.Lock()
        """Of the state: it is changed by the thread, and where that is stuck, by `look`."""
        self._thread = threading.Thread(target=self._follow, name=f"tracker-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_finish(self, *, is_whole: bool) -> None:
        """Let the thread hand over what is left, close the tracker and end."""
        self._is_whole = is_whole
        self._is_over.set()

    def wait(self, end_s: float) -> None:
        """Until the thread ended, or `end_s` of the monotonic clock; tells what is missing then."""
        if not self._is_done.wait(max(0.0, end_s - time.monotonic())):
            self._is_done.set()
            self._count()
            _log.warning(
                "tracker %s did not take the rest of the run in time: steps after %d may be "
                "missing there; they are in %s",
                *(self.name, self._state.step, self._run.metrics),
            )

    def look(self) -> None:
        """Called from outside now and then: counts a tracker that does not answer."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > STUCK_S:
            self._busy_since = time.monotonic()
            self._fault(f"it has not answered for {STUCK_S:g} s")

    def _follow(self) -> None:
        while not self._is_done.is_set():
            self._is_over.wait(self._pause_s())
            if self._num_failed and self._is_over.is_set():
                time.sleep(LOOK_S)
            is_over = self._is_over.is_set()
            try:
                self._turn(is_over)
            except Exception as error:
                # Boundary: whatever a tracker raises must not reach the run.
                self._num_failed += 1
                self._fault(f"{type(error).__name__}: {error}")
                self._drop()
                continue
            finally:
                self._busy_since = None
            self._num_failed = 0
            if is_over:
                self._is_done.set()

    def _pause_s(self) -> float:
        return min(MAX_PAUSE_S, LOOK_S * 2.0**self._num_failed)

    def _turn(self, is_over: bool) -> None:
        self._todo += self._reader.read(is_over=is_over)
        if not (self._todo or is_over):
            return
        tracker = self._opened()
        while self._todo:
            self._hand_over(tracker, self._todo[0], is_last=is_over and len(self._todo) == 1)
        if is_over:
            self._busy_since = time.monotonic()
            tracker.close(is_whole=self._is_whole)

    def _opened(self) -> Tracker:
        if self._tracker is None:
            self._busy_since = time.monotonic()
            self._tracker = self._open(self._state)
            held = self._tracker.newest_step()
            self._set(
                id=self._tracker.id,
                step=self._state.step if held is None else held,
            )
        return self._tracker

    def _hand_over(self, tracker: Tracker, record: StepRecord, *, is_last: bool) -> None:
        step = max(record.step, self._state.step)
        numbers = record.numbers if record.step > self._state.step else {}
        new_rows = record.rows if record.step > self._state.rows_step else []
        rows = [*self._rows, *new_rows]
        is_full = is_last or len(new_rows) > 1 or len(rows) >= _MAX_ROWS
        rows_now = rows if is_full else []
        if numbers or rows_now:
            self._busy_since = time.monotonic()
            tracker.take(step, numbers, rows_now)
        self._rows = rows if not rows_now else []
        self._todo.remove(record)
        self._set(step=step, rows_step=record.step if rows_now else self._state.rows_step)

    def _drop(self) -> None:
        """Forget the tracker, so that the next try opens it anew."""
        tracker, self._tracker = self._tracker, None
        try:
            if tracker is not None:
                tracker.close(is_whole=False)
        except Exception as error:
            # Boundary: it failed already, and that was told.
            _log.debug("%s: %s while it was closed", self.name, error)

    def _set(self, **changes: object) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)  # type: ignore[arg-type]
            self._state.write(self._run, self.name)

    def _fault(self, reason: str) -> None:
        if self._count() == self._faults_before + 1:
            _log.warning(
                "tracker %s failed: %s; the run goes on, and the tracker is tried again "
                "(faults/tracker in the metrics counts on)",
                *(self.name, reason),
            )

    def _count(self) -> int:
        """One fault more; how many there are."""
        with self._lock:
            self._state = replace(self._state, faults=self._state.faults + 1)
            try:
                self._state.write(self._run, self.name)
            except OSError as error:
                # Boundary: on a full disk the count is kept until there is room.
                _log.debug("%s: %s", self.name, error)
            return self._state.faults
