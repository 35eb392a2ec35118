"""A card or measured rates -> seconds of an engine's passes, and of all answers of a step.

A pass over few sequences takes as long as the weights and keys take to be read (memory-bound), over
many as long as the products take (compute-bound). What runs beside the device, an engine's own
scheduling, comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from t2g_ray.planning.cards import Card
from t2g_ray.planning.shapes import ModelShape
from t2g_ray.planning.shares import (
    ATTENTION_SHARE,
    BANDWIDTH_SHARE,
    COLLECTIVE_S,
    DECODE_MATMUL_SHARE,
    LINK_SHARE,
    PASS_OVERHEAD_S,
    SEQUENCE_OVERHEAD_S,
    matmul_share,
)
from t2g_ray.planning.speed.rates import EngineRates

COMPUTE, MEMORY, LINK, SCHEDULING = "compute", "memory bandwidth", "link", "scheduling"
MEASURED = "measured"

SLICES = 32
"""Into which the passes of a step are cut, between which answers end."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of some work, and what sets them."""

    seconds: float
    bound: str


class Engine(Protocol):
    """What one engine's passes take."""

    def grow(self, sequences: float, context: float) -> Cost:
        """One more token of each of `sequences`, which have `context` tokens before it."""

    def read(self, tokens: float, context: float) -> Cost:
        """Prompts of `tokens` tokens together, each of `context`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardEngine:
    """On `devices` cards by tensor parallelism; numbers of `number_bytes` bytes."""

    card: Card
    shape: ModelShape
    number_bytes: int
    devices: int = 1

    def grow(self, sequences: float, context: float) -> Cost:
        shape, numbers = self.shape, self.number_bytes
        flops = sequences * (self._token_flops() + 4.0 * shape.layers * shape.queries * context)
        cache = 2.0 * shape.layers * shape.keys * numbers
        num_bytes = self._read_parameters(sequences) * numbers + sequences * context * cache
        peak = self.card.flops_per_s * DECODE_MATMUL_SHARE * self.devices
        bandwidth = self.card.bytes_per_s * BANDWIDTH_SHARE * self.devices
        parts = {
            COMPUTE: flops / peak,
            MEMORY: num_bytes / bandwidth,
            LINK: self._collectives(sequences),
            SCHEDULING: PASS_OVERHEAD_S + sequences * SEQUENCE_OVERHEAD_S,
        }
        device = max(parts[COMPUTE], parts[MEMORY])
        return Cost(device + parts[LINK] + parts[SCHEDULING], max(parts, key=lambda k: parts[k]))

    def read(self, tokens: float, context: float) -> Cost:
        shape = self.shape
        attention = 2.0 * shape.layers * shape.queries * context / ATTENTION_SHARE
        flops = tokens * (self._token_flops() / matmul_share(shape.hidden) + attention)
        device = flops / (self.card.flops_per_s * self.devices)
        link = self._collectives(tokens)
        return Cost(device + link, LINK if link > device else COMPUTE)

    def _token_flops(self) -> float:
        return 2.0 * self.shape.active_parameters

    def _read_parameters(self, sequences: float) -> float:
        """Of which a pass reads: those of every expert that one of its tokens goes through."""
        shape = self.shape
        expert = 3.0 * shape.hidden * shape.inner
        reached: float = shape.experts * (1 - (1 - shape.active / shape.experts) ** sequences)
        attention = 2.0 * shape.hidden * (shape.queries + shape.keys)
        body = shape.layers * (attention + max(1.0, reached) * expert)
        return body + shape.head

    def _collectives(self, tokens: float) -> float:
        """Two sums over the devices a layer."""
        if self.devices == 1:
            return 0.0
        num_bytes = tokens * self.shape.hidden * self.number_bytes
        ring = 2 * (self.devices - 1) / self.devices * num_bytes
        seconds = ring / (self.card.link * 1e9 * LINK_SHARE) + COLLECTIVE_S
        return 2.0 * self.shape.layers * seconds


@dataclass(frozen=True, slots=True)
class MeasuredEngine:
    """As measured; `scale` is how many times as long passes take: of a larger model, or of engines
    that share cores."""

    rates: EngineRates
    scale: float = 1.0

    def grow(self, sequences: float, context: float) -> Cost:
        return Cost(self.rates.position_s(sequences) * self.scale, MEASURED)

    def read(self, tokens: float, context: float) -> Cost:
        return Cost(tokens * self.scale / self.rates.prefill_tokens_per_s, MEASURED)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What one engine writes of a step."""

    sequences: float
    most: int
    """Sequences that it writes at a time."""
    prompt: float
    """Tokens before an answer."""
    answer: float
    """Mean."""
    longest: float
    in_flight: int = 1
    """Steps' worth of groups that it has at a time: max_staleness + 1."""

    @property
    def context(self) -> float:
        """Tokens that the mean written token has before it."""
        return self.prompt + self.answer / 2

    def running(self, position: float) -> float:
        """Share of answers that have more tokens than `position`: (1 - position / longest)^a, with
        the a that gives their mean. All of one length: a = 0; evenly spread from 0 on: a = 1."""
        exponent = self.longest / self.answer - 1
        return max(0.0, 1 - position / self.longest) ** exponent if exponent > 1e-9 else 1.0


def decode(engine: Engine, load: EngineLoad) -> Cost:
    """All answers of a step on one engine.

    Alone, a step ends with its longest answer, in passes over ever fewer sequences. With more steps
    in flight the passes stay full: in as many as the longest answer has tokens, each of those
    steps gets done.
    """
    if load.in_flight > 1:
        return _steady(engine, load)
    parts: dict[str, float] = {}

    def add(passes: float, sequences: float) -> None:
        cost = engine.grow(sequences, load.context)
        parts[cost.bound] = parts.get(cost.bound, 0.0) + passes * cost.seconds

    together = min(load.sequences, load.most)
    if load.sequences > load.most:
        # What does not fit waits for a place, so passes are full until the last ones started.
        add((load.sequences - load.most) * load.answer / load.most, load.most)
    for number in range(SLICES):
        middle = (number + 0.5) / SLICES * load.longest
        add(load.longest / SLICES, max(1.0, together * load.running(middle)))
    return _sum(parts)


def _steady(engine: Engine, load: EngineLoad) -> Cost:
    present = load.in_flight * load.sequences * load.answer / load.longest
    if present > load.most:
        passes, present = load.sequences * load.answer / load.most, float(load.most)
    else:
        passes = load.longest / load.in_flight
    cost = engine.grow(max(1.0, present), load.context)
    return Cost(passes * cost.seconds, cost.bound)


def _sum(parts: dict[str, float]) -> Cost:
    return Cost(sum(parts.values()), max(parts, key=lambda bound: parts[bound]))
