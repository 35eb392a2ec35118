"""Every position once: by hand, and over random interleavings with resumes."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.prompts.ledger import Curriculum, Ledger


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
    steps=st.lists(st.sampled_from(["draw", "consume", "give back", "crash"]), max_size=60),
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
        elif step == "give back":
            some = choice.sample(sorted(drawn), choice.randint(0, len(drawn)))
            ledger.give_back(some)
            drawn -= set(some)
        else:
            ledger, drawn = Ledger.from_state(ledger.state()), set()
    assert len(consumed) == len(set(consumed)) == ledger.num_consumed
    # What lies open below the highest consumed position comes next, then new positions.
    top = max(consumed, default=-1)
    missing = sorted(set(range(top + 1)) - set(consumed))
    resumed = Ledger.from_state(ledger.state())
    assert resumed.draw(len(missing) + 2) == [*missing, top + 1, top + 2]


def test_what_was_given_back_comes_first() -> None:
    ledger = Ledger()
    ledger.draw(4)
    ledger.consume([0, 2])
    ledger.give_back([3, 1])
    assert ledger.draw(4) == [1, 3, 4, 5]
    with pytest.raises(ValueError, match="position 9"):
        ledger.give_back([9])


def curriculum() -> Curriculum:
    """Four records; every epoch has them in the same order."""
    return Curriculum(lambda position: position % 4, 4)


def answer(ledger: Ledger, scores: dict[int, float]) -> None:
    ledger.consume(scores)
    for position, score in scores.items():
        ledger.note(position, score)


def test_records_that_are_half_right_come_first_in_the_next_epoch() -> None:
    ledger = Ledger(curriculum=curriculum())
    # Nothing is known at first: the order of the epoch.
    assert ledger.draw(4) == [0, 1, 2, 3]
    answer(ledger, {0: 1.0, 1: 0.4, 2: 0.0, 3: 0.75})
    # Distances to one half: 0.5, 0.1, 0.5, 0.25.
    assert ledger.draw(3) == [5, 7, 4]
    answer(ledger, {5: 0.9, 4: 0.0})
    # The epoch is finished before the next one begins. Means now: 0.5, 0.65, 0.0, 0.75.
    assert ledger.draw(3) == [6, 8, 9]


def test_a_resumed_curriculum_draws_as_if_it_had_never_stopped() -> None:
    ledger = Ledger(curriculum=curriculum())
    ledger.draw(4)
    answer(ledger, {0: 1.0, 1: 0.9, 2: 0.6, 3: 0.8})
    ledger.draw(1)
    answer(ledger, {6: 0.6})
    state = json.loads(json.dumps(ledger.state()))
    assert state["scores"] == [[0, 1.0, 1], [1, 0.9, 1], [2, 1.2, 2], [3, 0.8, 1]]
    resumed = Ledger.from_state(state, curriculum())
    assert resumed.draw(3) == ledger.draw(3) == [7, 5, 4]
    assert "scores" not in Ledger().state()


@pytest.mark.untraced
@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_records=st.integers(1, 7),
    counts=st.lists(st.integers(0, 5), max_size=20),
)
def test_a_curriculum_has_every_record_once_an_epoch(
    seed: int, num_records: int, counts: list[int]
) -> None:
    choice = random.Random(seed)
    order = [choice.sample(range(num_records), num_records) for _ in range(101)]

    def made() -> Curriculum:
        return Curriculum(lambda p: order[p // num_records][p % num_records], num_records)

    ledger, consumed = Ledger(curriculum=made()), list[int]()
    for count in counts:
        positions = ledger.draw(count)
        given_up = choice.sample(positions, choice.randint(0, count))
        ledger.give_back(given_up)
        done = [position for position in positions if position not in given_up]
        answer(ledger, {position: choice.random() for position in done})
        consumed += done
        if choice.random() < 0.2:
            ledger = Ledger.from_state(ledger.state(), made())
    assert len(consumed) == len(set(consumed)) == ledger.num_consumed
    # What is open of the epochs begun comes before any later one.
    end = num_records * (1 + max(consumed, default=0) // num_records)
    rest = ledger.draw(end - ledger.num_consumed)
    assert sorted([*consumed, *rest]) == list(range(end))
