"""What the loop sees of the stages around it: Protocols, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from t2g_ray.grpo.books import Stock, Surplus
from t2g_ray.grpo.staleness import Due
from t2g_ray.prompts.ledger import Ledger
from t2g_ray.types import GroupSummary, Prompt, Record, SyncReport, TrainReport

WAITING = "wait for groups"
"""Span of the loop in which the learner has nothing to train."""


class LoopError(RuntimeError):
    """The run must stop: says what must hold, what was found, what to look at."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A scored group: what the loop may read, and the handle that the learner resolves.

    To the loop the handle is opaque.
    """

    summary: GroupSummary
    handle: object


@dataclass(frozen=True, slots=True)
class TrainGroup:
    """A group with its advantages [G]; None masks a completion that is not trained on."""

    index: int
    handle: object
    advantages: tuple[float | None, ...]
    lengths: tuple[int, ...]
    """Tokens of each completion that is trained."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are trained."""
        return sum(self.lengths)


class Prompts(Protocol):
    """The endless stream of prompts, by position."""

    def prompt(self, position: int) -> Prompt:
        """What the policy reads."""

    def record(self, position: int) -> Record:
        """What its completions are graded against."""


class Groups(Protocol):
    """Samplers and reward actors seen as one stage."""

    def start(self, positions: Sequence[int], *, min_version: int) -> None:
        """Begin a group for each position, under at least this version."""

    def take(
        self, count: int, *, dues: Sequence[Due], should_stop: Callable[[], bool]
    ) -> list[Ready]:
        """Wait until `staleness.choose` picks `count` of the scored groups, and return those.

        Raises RunStopped as soon as `should_stop()`, and takes nothing then.
        """

    def end(self, positions: Sequence[int]) -> Surplus:
        """Give up these groups, finished or not; returns once none of them is left."""

    def stock(self) -> Stock:
        """What has arrived since the start, and how much of it was not taken yet."""


class Trainer(Protocol):
    """The learner ranks."""

    def step(self, groups: Sequence[TrainGroup], *, divisor: float) -> TrainReport:
        """Train on the groups, at least one. `divisor` is the result of `loss_divisor`."""


class Weights(Protocol):
    """The path of the weights from learner to samplers."""

    def publish(self, version: int) -> SyncReport:
        """Send the learner's weights as `version`."""


class Watcher(Protocol):
    """What is recorded of a step, and what is due after it: files, evaluation, checkpoints."""

    def after_step(self, line: Mapping[str, float], taken: Sequence[Ready], ledger: Ledger) -> None:
        """Called once for each step, with the weights of that step published."""

    def needs_samplers(self, step: int) -> bool:
        """Whether `after_step` of this step uses the samplers, which should then be idle."""


class Scaler(Protocol):
    """Rollout actors that join and leave between two steps."""

    def step(self) -> None:
        """Move towards the requested number of actors; called after every step of the loop."""
