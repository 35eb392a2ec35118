"""Progress off and on a terminal, and notices of long waits."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from t2g_ray.run.progress import StageProgress, announced_wait


def until(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10.0
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def notice_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "announced-wait"]


def test_off_a_terminal_lines_are_rare_but_the_last_step_is_always_told() -> None:
    out = io.StringIO()
    with StageProgress("grpo", 50, line_every_s=3600.0, console=Console(file=out)) as progress:
        for step in range(1, 51):
            progress.update(step, reward=0.41234, f1_entities=0.5, tokens_per_s=1234.5)
    assert re.sub(r"\d+ s", "0 s", out.getvalue()).splitlines() == [
        "grpo 1/50  0 s  reward 0.412  f1 entities 0.500  tokens/s 1234",
        "grpo 50/50  0 s  reward 0.412  f1 entities 0.500  tokens/s 1234",
    ]


def test_off_a_terminal_every_step_is_told_when_steps_are_slower_than_lines() -> None:
    out = io.StringIO()
    with StageProgress("sft [x]", 3, line_every_s=0.0, console=Console(file=out)) as progress:
        for step in (1, 2, 3):
            progress.update(step)
    assert out.getvalue().splitlines() == [f"sft [x] {step}/3  0 s" for step in (1, 2, 3)]


def test_on_a_terminal_a_bar_shows_step_and_numbers() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with StageProgress("grpo", 4, console=console) as progress:
        progress.update(4, reward=0.5)
    assert "4/4" in out.getvalue()
    assert "reward 0.500" in out.getvalue()


def test_a_long_wait_is_told_again_and_again_and_its_thread_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = iter(range(1, 1000))
    with (
        caplog.at_level(logging.WARNING),
        announced_wait(lambda: f"groups, {next(done)} of 8 ready", after_s=0.005),
    ):
        until(lambda: len(caplog.messages) >= 2)
    assert caplog.messages[0] == "waiting 0 s for groups, 1 of 8 ready"
    assert caplog.messages[1] == "waiting 0 s for groups, 2 of 8 ready"
    until(lambda: not notice_threads())


def test_a_short_wait_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with announced_wait(lambda: "nothing", after_s=30.0):
        pass
    until(lambda: not notice_threads())
    assert caplog.messages == []


def test_a_wait_that_fails_ends_its_notices_and_keeps_its_error() -> None:
    with pytest.raises(KeyError), announced_wait(lambda: "x", after_s=30.0):
        raise KeyError("lost")
    until(lambda: not notice_threads())


def test_a_description_that_fails_is_told_and_does_not_disturb_the_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def describe() -> str:
        raise RuntimeError("actor is gone")

    with announced_wait(describe, after_s=0.005):
        until(lambda: len(caplog.messages) >= 2)
    assert "cannot be described (RuntimeError: actor is gone)" in caplog.messages[0]
