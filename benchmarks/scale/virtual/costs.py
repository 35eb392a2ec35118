"""What things take in a simulated run: lengths of answers, engines, learner, driver, faults.

The defaults are a 7B policy on cards of 80 GB. `docs/scaling_limits.md` says where each comes from;
those of the driver are measured by `t2g bench scale`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Log-normal numbers of tokens, cut at `limit`.

    `sigma` is the spread of the logarithm; `shared` is the share of its variance that the
    completions of one prompt have in common. With sigma 1 the 99th percentile is ten medians.
    """

    median: float = 1500.0
    sigma: float = 1.0
    shared: float = 0.5
    limit: int = 28672

    def draw(self, chance: Random, count: int) -> Iterator[int]:
        """Lengths of the completions of one prompt."""
        own, common = (self.sigma * part**0.5 for part in (1 - self.shared, self.shared))
        prompt = self.median * exp(chance.gauss(0, common))
        for _ in range(count):
            length = round(prompt * exp(chance.gauss(0, own)))
            yield min(self.limit, max(1, length))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCosts:
    """A pass of the model takes `pass_s`, and `sequence_s` more for each sequence in it."""

    pass_s: float = 0.0045
    sequence_s: float = 0.00013
    most_sequences: int = 256
    load_s: float = 1.0
    """Seconds that loading a version holds up what is being written."""
    transfer_s: float = 2.0
    """From the learner to the engine; nothing is held up meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverCosts:
    """Seconds of the driver, as measured with 1,024 actors."""

    group_s: float = 0.0009
    """To take on one group, from its stream to its summary."""
    call_s: float = 0.0003
    """To begin a call that carries prompts."""
    sync_s: float = 0.0014
    """To tell one actor of a version."""
    spans_s: float = 0.0003
    """To ask one actor for its part of the trace."""
    loop_s: float = 0.0002
    """Of the loop itself, a group: advantages, books and the line of the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong. Zero: never."""

    slow_share: float = 0.0
    """Of the engines, those that take `slow_factor` times as long for all they do."""
    slow_factor: float = 1.5
    hiccup_every_s: float = 0.0
    """Mean time between two pauses of one engine."""
    hiccup_s: float = 20.0
    mtbf_s: float = 0.0
    """Mean time of one actor from start to death; a death ends the run."""
    restart_s: float = 300.0
    """From a death until the resumed run begins its first step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A placement and its costs."""

    actors: int
    train_s_per_token: float
    """Of the whole learner."""
    step_s: float = 0.0
    """Of a step of the learner, whatever it trains on."""
    lengths: Lengths = Lengths()
    engine: EngineCosts = EngineCosts()
    driver: DriverCosts = DriverCosts()
    faults: Faults = Faults()
    gather_s_per_actor: float = 1e-4
    seed: int = 0
