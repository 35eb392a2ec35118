"""Every position once: by hand, and over random interleavings with resumes."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.data.ledger import Ledger


def test_positions_are_drawn_in_order() -> None:
    ledger = Ledger()
    assert ledger.draw(3) == [0, 1, 2]
    assert ledger.draw(0) == []
    assert ledger.draw(2) == [3, 4]


def test_the_watermark_waits_for_the_lowest_position() -> None:
    ledger = Ledger()
    ledger.draw(4)
    ledger.consume([3, 1])
    assert ledger.state() == {"watermark": 0, "ahead": [1, 3]}
    ledger.consume([0])
    assert ledger.state() == {"watermark": 2, "ahead": [3]}
    assert ledger.num_consumed == 3


def test_a_resumed_ledger_draws_first_what_was_drawn_and_not_consumed() -> None:
    ledger = Ledger()
    ledger.draw(5)
    ledger.consume([1, 4])
    resumed = Ledger.from_state(json.loads(json.dumps(ledger.state())))
    assert resumed.draw(4) == [0, 2, 3, 5]


def test_what_was_consumed_ahead_of_a_resume_is_not_drawn_again_once_the_gap_is_closed() -> None:
    ledger = Ledger(watermark=0, ahead=[2])
    ledger.consume(ledger.draw(2))
    assert ledger.draw(2) == [3, 4]


@pytest.mark.parametrize("position", [7, 0])
def test_a_position_is_consumed_only_once_and_only_after_it_was_drawn(position: int) -> None:
    ledger = Ledger()
    ledger.draw(2)
    ledger.consume([0])
    with pytest.raises(ValueError, match=f"found position {position} consumed without being drawn"):
        ledger.consume([position])


@settings(deadline=None)
@given(
    steps=st.lists(st.sampled_from(["draw", "consume", "crash"]), max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_position_is_consumed_exactly_once(steps: list[str], seed: int) -> None:
    choice = random.Random(seed)
    ledger, drawn, consumed = Ledger(), set[int](), list[int]()
    for step in steps:
        if step == "draw":
            drawn |= set(ledger.draw(choice.randrange(4)))
        elif step == "consume":
            some = choice.sample(sorted(drawn), choice.randint(0, len(drawn)))
            ledger.consume(some)
            drawn -= set(some)
            consumed += some
        else:
            ledger, drawn = Ledger.from_state(ledger.state()), set()
    assert len(consumed) == len(set(consumed)) == ledger.num_consumed
    # What lies open below the highest consumed position comes next, then new positions.
    top = max(consumed, default=-1)
    missing = sorted(set(range(top + 1)) - set(consumed))
    resumed = Ledger.from_state(ledger.state())
    assert resumed.draw(len(missing) + 2) == [*missing, top + 1, top + 2]
