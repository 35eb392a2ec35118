"""Turns on a device that counts its bytes and knows what may be there together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from t2g_ray.grpo.sharing.turns import AtOnce, InTurns, Turn
from t2g_ray.grpo.stages import LoopError

PARAMETERS, STATES, COPY, WEIGHTS, CACHE, ACTIVATIONS = 2, 16, 2, 2, 20, 5
SIZE = 24
"""Less than states and cache, more than each with what stands beside it."""


@dataclass
class Device:
    """What is on it by name, in bytes. The engine knows whether its weights mean anything."""

    holds: dict[str, int] = field(
        default_factory=lambda: {"parameters": PARAMETERS, "states": STATES}
    )
    has_content: bool = False
    is_writing: bool = False
    peak: int = 0
    events: list[str] = field(default_factory=list)
    fails_at: str = ""

    def take(self, name: str, size: int) -> None:
        assert name not in self.holds, f"{name} is there already"
        self.holds[name] = size
        assert not {"states", "cache"} <= self.holds.keys(), "both are whole on the device"
        self.peak = max(self.peak, sum(self.holds.values()))
        assert self.peak <= SIZE, f"out of memory: {self.holds}"

    def note(self, event: str) -> None:
        self.events.append(event)
        if event == self.fails_at:
            raise RuntimeError(f"{event} failed")

    def engines_sleep(self) -> None:
        self.note("sleep")
        assert not self.is_writing
        del self.holds["weights"], self.holds["cache"]
        self.has_content = False

    def engines_take_weights(self) -> None:
        self.note("take weights")
        self.take("weights", WEIGHTS)

    def engines_take_cache(self) -> None:
        self.note("take cache")
        self.take("cache", CACHE)

    def learners_leave(self) -> None:
        self.note("leave")
        del self.holds["states"]

    def learners_come_back(self) -> None:
        self.note("come back")
        self.take("states", STATES)

    def learners_drop_copies(self) -> None:
        self.note("drop")
        self.holds.pop("copy", None)

    def send(self) -> str:
        self.note("send")
        self.take("copy", COPY)
        assert "weights" in self.holds, "a load into memory that is not there"
        self.has_content = True
        return "sent"

    def train(self) -> None:
        self.note("train")
        assert "states" in self.holds
        assert "weights" not in self.holds, "the engine is awake"
        self.take("activations", ACTIVATIONS)
        del self.holds["activations"]

    def write(self) -> None:
        self.note("write")
        assert {"weights", "cache"} <= self.holds.keys(), "the engine sleeps"
        assert self.has_content, "weights without content"


def test_three_steps_never_have_both_on_the_device_and_train_beside_a_sleeping_engine() -> None:
    device = Device()
    turns = InTurns(device)
    assert turns.hand_over(device.send) == "sent"
    for _ in range(3):
        assert turns.turn is Turn.ENGINE
        device.write()
        turns.to_learner()
        assert turns.turn is Turn.LEARNER
        device.train()
        turns.hand_over(device.send)
    handed_over = ["leave", "take weights", "send", "drop", "take cache"]
    assert device.events[:5] == handed_over
    assert device.events[5:] == ["write", "sleep", "come back", "train", *handed_over] * 3
    assert device.peak < PARAMETERS + STATES + WEIGHTS + CACHE
    assert device.holds == {"parameters": PARAMETERS, "weights": WEIGHTS, "cache": CACHE}


def test_asking_twice_changes_nothing_and_weights_twice_put_the_engine_to_sleep_between() -> None:
    device = Device()
    turns = InTurns(device)
    turns.to_learner()
    assert not device.events
    turns.hand_over(device.send)
    turns.hand_over(device.send)
    assert device.events[5:7] == ["sleep", "come back"]
    turns.to_learner()
    turns.to_learner()
    assert device.events.count("come back") == 2


@pytest.mark.parametrize(
    "event", ["sleep", "come back", "leave", "take weights", "send", "drop", "take cache"]
)
def test_a_change_that_fails_leaves_the_device_to_nobody(event: str) -> None:
    device = Device()
    turns = InTurns(device)
    turns.hand_over(device.send)
    turns.to_learner()
    turns.hand_over(device.send)
    device.fails_at = event

    def changes() -> None:
        turns.to_learner()
        turns.hand_over(device.send)

    with pytest.raises(RuntimeError, match=f"{event} failed"):
        changes()
    assert turns.turn is Turn.HANDING_OVER
    tries: list[Callable[[], object]] = [turns.to_learner, lambda: turns.hand_over(device.send)]
    for again in tries:
        with pytest.raises(LoopError, match=r"changed hands and did not arrive.*resume=auto"):
            again()
    assert device.events[-1] == event


def test_the_fake_device_sees_each_wrong_order() -> None:
    device = Device()
    with pytest.raises(AssertionError, match="the engine sleeps"):
        device.write()
    with pytest.raises(AssertionError, match="memory that is not there"):
        Device().send()
    awake = Device()
    awake.learners_leave()
    awake.engines_take_weights()
    awake.engines_take_cache()
    with pytest.raises(AssertionError, match="without content"):
        awake.write()
    with pytest.raises(AssertionError, match="both are whole"):
        awake.learners_come_back()


def test_devices_of_their_own_are_used_at_once() -> None:
    turns = AtOnce()
    turns.to_learner()
    assert turns.hand_over(lambda: 7) == 7
