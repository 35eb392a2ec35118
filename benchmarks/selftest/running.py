"""Checks and minutes -> outcomes. One that fails, dies or hangs costs its own verdict alone.

Invariant: when `run_checks` returns, each check has one outcome, in order, and what a check raised,
whatever it was, is a verdict. The minutes are an upper bound: a check that would not fit is
skipped, and one that is still at work when they are over is ended.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.selftest.outcome import Figure, Outcome, Verdict

HANGS_AFTER = 6.0
"""As a multiple of the seconds that a check should take."""
LEAST_LIMIT_S = 120.0


class CheckFailed(RuntimeError):
    """Something that a check looks at does not hold."""


class CheckSkipped(RuntimeError):
    """This machine, or this version, has nothing for the check to look at; the text says what."""


class _TimeIsUp(KeyboardInterrupt):
    """Raised inside a check. Ray's waits end with what Ctrl-C raises, and with nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One small question to the machine."""

    name: str
    shows: str
    work: Callable[[], Sequence[Figure]]
    """Its figures. Raises CheckSkipped, or any other error where the check fails."""
    expected_s: float
    advice: str
    """What to do where it fails."""


Told = Callable[[Outcome], None]


def run_checks(
    checks: Sequence[Check],
    *,
    seconds: float,
    tell: Told = lambda outcome: None,
    after_failure: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Run the checks in their order, the important ones first.

    `tell` hears of each outcome as it comes; `after_failure` clears away what a failed check left.
    """
    end = time.monotonic() + seconds
    outcomes = []
    for check in checks:
        outcome = _run(check, left_s=end - time.monotonic(), budget_s=seconds)
        if outcome.verdict == "failed":
            after_failure()
        tell(outcome)
        outcomes.append(outcome)
    return outcomes


def _run(check: Check, *, left_s: float, budget_s: float) -> Outcome:
    if left_s < check.expected_s:
        return _ended(
            check,
            "skipped",
            0.0,
            f"takes about {check.expected_s:.0f} s, {max(0.0, left_s):.0f} s of "
            f"{budget_s / 60:g} minutes are left",
            "give more --minutes",
        )
    own_limit_s = max(LEAST_LIMIT_S, HANGS_AFTER * check.expected_s)
    started = time.monotonic()

    def seconds() -> float:
        return time.monotonic() - started

    # Boundary: whatever a check raises is its verdict.
    try:
        with time_limit(min(left_s, own_limit_s)) as is_over:
            try:
                figures = tuple(check.work())
            except KeyboardInterrupt:
                if not is_over():
                    raise
                if own_limit_s <= left_s:
                    reason = f"must end within {own_limit_s:.0f} s, was still at work"
                    return _ended(check, "failed", seconds(), reason, check.advice)
                reason = f"was still at work after {budget_s / 60:g} minutes"
                return _ended(check, "skipped", seconds(), reason, "give more --minutes")
    except CheckSkipped as skipped:
        return _ended(check, "skipped", seconds(), str(skipped), "")
    except Exception as error:
        return _ended(check, "failed", seconds(), _words_of(error), check.advice)
    return Outcome(
        name=check.name,
        shows=check.shows,
        verdict="passed",
        seconds=seconds(),
        figures=figures,
    )


def _ended(check: Check, verdict: Verdict, seconds: float, found: str, advice: str) -> Outcome:
    return Outcome(
        name=check.name,
        shows=check.shows,
        verdict=verdict,
        seconds=seconds,
        found=found,
        advice=advice,
    )


def _words_of(error: Exception) -> str:
    """Without the traceback that Ray puts around what an actor raised."""
    cause = getattr(error, "cause", None) or error
    words = " ".join(str(cause).split())
    return words if isinstance(cause, CheckFailed) else f"{type(cause).__name__}: {words}"


@contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], bool]]:
    """End the block, as Ctrl-C would, once the seconds are over; yields whether they are.

    Signals reach the main thread alone: in another one there is no limit.
    """
    is_over = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield is_over.is_set
        return

    def interrupt(number: int, frame: object) -> None:
        is_over.set()
        raise _TimeIsUp

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, interrupt)
    # Whoever set a timer before, as a test's time limit does, gets it back with what is left.
    other_s, _ = signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield is_over.is_set
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if other_s:
            left_s = other_s - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s))
