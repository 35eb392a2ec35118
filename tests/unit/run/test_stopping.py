"""The first signal is remembered, the second acts as usual, and nothing is left behind."""

from __future__ import annotations

import signal

import pytest

from t2g_ray.run.stopping import RunStopped, StopSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_interrupts_nothing_and_the_second_acts_as_before(
    number: signal.Signals,
) -> None:
    seen: list[int] = []
    before = signal.signal(number, lambda found, _: seen.append(found))
    try:
        with StopSignal() as stop:
            assert not stop()
            signal.raise_signal(number)
            assert stop()
            assert seen == []
            signal.raise_signal(number)
            assert seen == [number]
    finally:
        signal.signal(number, before)


def test_handlers_are_as_before_when_no_signal_came() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignal():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stopped_run_passes_by_what_catches_errors() -> None:
    assert not issubclass(RunStopped, Exception)
