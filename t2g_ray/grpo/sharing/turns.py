"""Whose turn a device is: the learner's, the engine's, or nobody's while weights are handed over.

    the learner ---- it leaves; engine wakes for weights; load; learner drops its copy;
        ^            engine wakes its cache -------------------------------------------> the engine
        +---------- engine sleeps, which discards its weights; learner comes back <---------+

Leaving first, and waking the cache last, keeps the most that is there at a time low: beside the
learner's parameters the engine's, and for a transport that shares memory one copy more.

Invariant: optimiser's states and KV cache are never on the device together, training finds a
sleeping engine, and generation an engine that loaded its weights after it last slept. A change of
turns that fails leaves the device to nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol, TypeVar

from t2g_ray.grpo.stages import LoopError

Result = TypeVar("Result")


class Turn(Enum):
    """Who may compute."""

    LEARNER = "the learner's"
    HANDING_OVER = "nobody's"
    ENGINE = "the engine's"


class Sharers(Protocol):
    """The learner ranks and the engines beside them. Each call returns when it is done."""

    def engines_sleep(self) -> None:
        """The engines give up the memory of weights and cache; fails while they write groups."""

    def engines_take_weights(self) -> None:
        """They take memory for weights, without content, which a load must come to."""

    def engines_take_cache(self) -> None:
        """They take memory for the KV cache, and may write."""

    def learners_leave(self) -> None:
        """The learner ranks move what their optimisers hold to the host."""

    def learners_come_back(self) -> None:
        """They move it to their devices again, and may train."""

    def learners_drop_copies(self) -> None:
        """They give up the memory that engines read weights from."""


class TakingTurns(Protocol):
    """How stages ask for the device."""

    def to_learner(self) -> None:
        """Let the learner train from here on."""

    def hand_over(self, send: Callable[[], Result]) -> Result:
        """Let `send` bring weights to the engines, and these write from here on."""


class AtOnce:
    """Devices that nobody has to leave."""

    def to_learner(self) -> None:
        """Nothing has to change."""

    def hand_over(self, send: Callable[[], Result]) -> Result:
        """Send, and nothing else."""
        return send()


class InTurns:
    """A device, or several that change hands together; at first the learner's."""

    def __init__(self, sharers: Sharers) -> None:
        self._sharers = sharers
        self.turn = Turn.LEARNER

    def to_learner(self) -> None:
        """Raises LoopError after a change of turns that failed."""
        if self.turn is Turn.LEARNER:
            return
        self._begin("training")
        self._sharers.engines_sleep()
        self._sharers.learners_come_back()
        self.turn = Turn.LEARNER

    def hand_over(self, send: Callable[[], Result]) -> Result:
        """`send` must return when all engines loaded. Raises LoopError after a change of turns
        that failed."""
        self.to_learner()
        self._begin("a load of weights")
        self._sharers.learners_leave()
        self._sharers.engines_take_weights()
        sent = send()
        self._sharers.learners_drop_copies()
        self._sharers.engines_take_cache()
        self.turn = Turn.ENGINE
        return sent

    def _begin(self, work: str) -> None:
        if self.turn is Turn.HANDING_OVER:
            raise LoopError(
                f"{work} needs a device that is the learner's or the engine's, found that it "
                "changed hands and did not arrive: an earlier error says why; resume=auto goes on "
                "from the last checkpoint"
            )
        self.turn = Turn.HANDING_OVER
