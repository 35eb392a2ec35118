"""The words of a plan: parts of memory and of time, where they are, and what is made of them.

Everything is frozen and holds plain values, so that a plan can be written as JSON as it is. Bytes
are bytes and seconds are seconds; who shows them chooses the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from t2g_ray.config.device.told import shown

Side = Literal["learner", "rollout", "reward", "sync"]
"""Whose time a part is."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one actor is. On a CPU it has no devices.

    Example: Seat("learner/0", 1, (0,)) is on the first GPU of the second machine.
    """

    actor: str
    machine: int
    """Index among the machines of the cluster."""
    devices: tuple[int, ...] = ()

    @property
    def role(self) -> str:
        """learner, rollout or reward."""
        return self.actor.partition("/")[0]


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """Bytes of one kind. Example: MemoryPart("moments", 12_352_000_000, "learner/0")."""

    name: str
    num_bytes: int
    holder: str
    """The actor, or what else holds them: "Ray", "run" (the program that drives it)."""


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """The memory of one device, or of one machine, and what is in it at the fullest moment."""

    name: str
    """Example: "machine 1, GPU 0", or "machine 1, host"."""
    machine: int
    device: int | None
    """None: the machine's own memory."""
    capacity: int | None
    """Bytes; None where they are not known."""
    parts: tuple[MemoryPart, ...]

    @property
    def used(self) -> int:
        """Bytes of all parts."""
        return sum(part.num_bytes for part in self.parts)

    @property
    def fits(self) -> bool:
        """True too where the capacity is not known."""
        return self.capacity is None or self.used <= self.capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class KvRoom:
    """The KV cache of one engine, over all of its devices."""

    num_bytes: int
    sequence_bytes: int
    """Keys and values of one longest prompt with its longest answer."""
    sequence_tokens: int
    max_sequences: int
    """What the configuration lets an engine write at a time."""

    @property
    def sequences(self) -> int:
        """How many longest sequences the cache holds."""
        return self.num_bytes // self.sequence_bytes if self.sequence_bytes else 0


@dataclass(frozen=True, slots=True)
class TimePart:
    """Seconds of one kind in a step. Example: TimePart("backward", 8.2, "learner", "compute")."""

    name: str
    seconds: float
    side: Side
    bound: str
    """What sets them: "compute", "memory bandwidth", "link", "measured", ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a step takes, and what that gives."""

    parts: tuple[TimePart, ...]
    step_s: float
    """Wall-clock."""
    tokens: float
    """Of one step: all completions, each with its prompt."""
    answer_tokens: float
    """Those of the completions alone."""
    rollout_s: float
    """What the samplers' side of a step takes by itself; 0 in SFT, which has none."""
    learner_s: float
    """What the learner's side takes by itself."""
    rollouts: int
    """Rollout actors as configured; 0 in SFT."""
    balanced_rollouts: int | None
    """The fewest rollout actors whose side takes no longer than the learner's; None: SFT, engines
    on the learner's devices, or no number does."""
    rates: str
    """Where the rates come from."""
    assumptions: tuple[str, ...]
    """What else the figures rest on, one sentence each."""

    @property
    def tokens_per_s(self) -> float:
        """As metrics.jsonl's throughput/tokens_per_s."""
        return self.tokens / self.step_s

    @property
    def generated_tokens_per_s(self) -> float:
        """As metrics.jsonl's throughput/generated_tokens_per_s."""
        return self.answer_tokens / self.step_s

    @property
    def bottleneck(self) -> Literal["rollout", "learner"]:
        """The side that takes longer."""
        return "rollout" if self.rollout_s > self.learner_s else "learner"

    @property
    def imbalance(self) -> float:
        """Seconds of the longer side over those of the shorter one; infinite in SFT."""
        short, long = sorted((self.rollout_s, self.learner_s))
        return long / short if short else float("inf")


@dataclass(frozen=True, slots=True)
class Change:
    """Settings with which a run would fit that does not."""

    settings: Mapping[str, object]
    """Dotted keys and values. Example: {"learner.zero_stage": 3}."""
    places: tuple[MemoryPlace, ...]
    """What it would need then."""

    @property
    def written(self) -> str:
        """As overrides of a command line."""
        return " ".join(f"{key}={shown(value)}" for key, value in self.settings.items())
