"""Checks that pass, fail, are skipped, die or hang: each has its own verdict, in its own time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from benchmarks.selftest import running
from benchmarks.selftest.outcome import Figure, Outcome
from benchmarks.selftest.running import (
    Check,
    CheckFailed,
    CheckSkipped,
    run_checks,
    time_limit,
)

ONE = [Figure("tokens", 1.0, "count")]


def check(work: Callable[[], Sequence[Figure]], *, name: str = "a", expected_s: float = 0) -> Check:
    return Check(
        name=name, shows="it works", work=work, expected_s=expected_s, advice="see the log"
    )


def raises(error: BaseException) -> Callable[[], Sequence[Figure]]:
    def work() -> Sequence[Figure]:
        raise error

    return work


def run_one(work: Callable[[], Sequence[Figure]], seconds: float = 60) -> Outcome:
    return run_checks([check(work)], seconds=seconds)[0]


def test_figures_are_those_of_a_check_that_passed() -> None:
    found = run_one(lambda: ONE)
    assert (found.verdict, found.figures, found.advice) == ("passed", tuple(ONE), "")


def test_what_a_check_raises_is_its_verdict_and_the_next_one_runs() -> None:
    class FromAnActor(RuntimeError):
        """As Ray wraps what an actor raised: with a traceback in the text."""

        cause = CheckFailed("the tensor must arrive")

    told: list[str] = []
    cleared: list[int] = []
    outcomes = run_checks(
        [
            check(raises(CheckFailed("it must hold"))),
            check(raises(KeyError("x"))),
            check(raises(FromAnActor("Traceback ..."))),
            check(raises(CheckSkipped("no GPU"))),
            check(lambda: [Figure("speed", float("nan"), "tokens/s")]),
            check(lambda: ONE),
        ],
        seconds=60,
        tell=lambda outcome: told.append(outcome.verdict),
        after_failure=lambda: cleared.append(len(told)),
    )
    assert [(one.verdict, one.found) for one in outcomes] == [
        ("failed", "it must hold"),
        ("failed", "KeyError: 'x'"),
        ("failed", "the tensor must arrive"),
        ("skipped", "no GPU"),
        ("failed", "ValueError: speed must be a finite number, found nan"),
        ("passed", ""),
    ]
    assert outcomes[0].advice == "see the log"
    assert told == [one.verdict for one in outcomes]
    assert cleared == [0, 1, 2, 4]


def test_a_check_that_does_not_fit_is_skipped_and_a_shorter_one_still_runs() -> None:
    long, short = run_checks(
        [check(raises(KeyError("not run")), expected_s=61), check(lambda: ONE)], seconds=60
    )
    assert (long.verdict, long.advice) == ("skipped", "give more --minutes")
    assert long.found == "takes about 61 s, 60 s of 1 minutes are left"
    assert short.verdict == "passed"


def hang() -> Sequence[Figure]:
    time.sleep(30)
    return ONE


def test_a_check_at_work_when_the_minutes_are_over_is_ended_and_no_failure() -> None:
    started = time.monotonic()
    found = run_one(hang, seconds=0.2)
    assert time.monotonic() - started < 5
    assert found.verdict == "skipped"
    assert "still at work" in found.found


def test_a_check_that_hangs_long_past_its_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LEAST_LIMIT_S", 0.2)
    found = run_one(hang)
    assert (found.verdict, found.found) == ("failed", "must end within 0 s, was still at work")


def test_ctrl_c_ends_the_whole_self_test() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_one(raises(KeyboardInterrupt()))


def test_a_timer_that_was_set_before_goes_on_afterwards() -> None:
    rang: list[Any] = []
    old_handler = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
    old_timer = signal.setitimer(signal.ITIMER_REAL, 50)
    try:
        with time_limit(30):
            assert 29 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30
        assert 49 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
        assert not rang
    finally:
        signal.setitimer(signal.ITIMER_REAL, *old_timer)
        signal.signal(signal.SIGALRM, old_handler)


def test_outside_the_main_thread_there_is_no_limit_and_no_error() -> None:
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(run_one(lambda: ONE)))
    thread.start()
    thread.join()
    assert found[0].verdict == "passed"
