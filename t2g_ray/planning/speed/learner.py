"""A card or measured rates -> what the learner's ranks take for a step, by component."""

from __future__ import annotations

import math
from dataclasses import dataclass

from t2g_ray.config import LearnerConfig
from t2g_ray.planning.cards import Card
from t2g_ray.planning.parts import TimePart
from t2g_ray.planning.shapes import BYTES, ModelShape, trained_parameters
from t2g_ray.planning.shares import (
    ATTENTION_SHARE,
    BANDWIDTH_SHARE,
    COLLECTIVE_S,
    HOST_MEMORY,
    LINK_SHARE,
    matmul_share,
)
from t2g_ray.planning.speed.engine import COMPUTE, LINK, MEASURED, MEMORY
from t2g_ray.planning.speed.rates import Rates
from t2g_ray.planning.speed.work import Passes, StepWork

MATRICES = 7
"""Numbers of fp32 that AdamW reads or writes for each it trains: gradient, master weight and both
moments in, the last three out."""
MUON_FLOPS = 30.0
"""Operations a parameter and unit of width that Muon takes: five steps of three products each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerRanks:
    """The ranks as configured. `ranks_of_node`: how many of them one node has; `network`: between
    nodes, GB/s each way."""

    settings: LearnerConfig
    shape: ModelShape
    ranks_of_node: int
    network: float

    @property
    def across(self) -> float:
        """GB/s each way of the slowest link between two ranks that is no card's own; infinite
        where all ranks are on one node."""
        return math.inf if self.settings.ranks <= self.ranks_of_node else self.network


def card_parts(
    card: Card, ranks: LearnerRanks, work: StepWork, passes: Passes
) -> tuple[TimePart, ...]:
    """On cards: forward, backward, recomputation, collectives, optimiser."""
    settings, shape = ranks.settings, ranks.shape
    # Kernels of float32 run at TF32's speed at most, half of bfloat16's.
    peak = card.flops_per_s / (1 if BYTES[settings.dtype] == 2 else 2)
    shares = work.forward.linear / matmul_share(shape.hidden) + (
        work.forward.attention / ATTENTION_SHARE
    )
    pass_s = shares / settings.ranks / peak
    return (
        *_computed(passes, pass_s, COMPUTE),
        *_collectives(card, ranks, work, passes),
        _optimizer(card, ranks, passes),
    )


def _computed(passes: Passes, pass_s: float, bound: str) -> tuple[TimePart, ...]:
    counts = {
        "forward": passes.forward,
        "backward": passes.backward,
        "recomputation": passes.recomputation,
    }
    return tuple(
        TimePart(name, count * pass_s, "learner", bound) for name, count in counts.items() if count
    )


def _optimizer(card: Card, ranks: LearnerRanks, passes: Passes) -> TimePart:
    settings, shape = ranks.settings, ranks.shape
    updates = passes.updates
    trained = trained_parameters(settings, shape)
    own = trained / (settings.ranks if settings.zero_stage else 1)
    num_bytes = 4.0 * MATRICES * own
    if settings.has_optimizer_on_host:
        # Gradients (fp32) down, weights up, and the step in the host's memory.
        moved = own * (4 + BYTES[settings.dtype]) / (card.host * 1e9 * LINK_SHARE)
        seconds = moved + num_bytes / (HOST_MEMORY * 1e9)
        return TimePart("optimiser", updates * seconds, "learner", "host memory")
    seconds = num_bytes / (card.bytes_per_s * BANDWIDTH_SHARE)
    if settings.optimizer.name == "muon":
        flops = MUON_FLOPS * shape.hidden * own
        seconds += flops / (card.flops_per_s * matmul_share(shape.hidden))
    return TimePart("optimiser", updates * seconds, "learner", MEMORY)


def _collectives(
    card: Card, ranks: LearnerRanks, work: StepWork, passes: Passes
) -> tuple[TimePart, ...]:
    """Sums of gradients in fp32; with ZeRO weights back, and at stage 3 gathered for every pass."""
    settings, shape = ranks.settings, ranks.shape
    count = settings.ranks
    if count == 1:
        return ()
    stage, width = settings.zero_stage, BYTES[settings.dtype]
    micros = max(1, math.ceil(work.computed / count / settings.token_budget))
    trained = trained_parameters(settings, shape)
    # Bytes that a rank sends: a sum to all is a scatter and a gather of (n - 1) / n each.
    gradients = 4.0 * trained * (micros if stage >= 2 else 1) * (2 if stage == 0 else 1)
    weights = width * trained if 0 < stage < 3 else 0
    gathers = 0.0
    if stage == 3:
        gathers = width * shape.parameters * micros * (passes.total - passes.backward + 1)
    num_bytes = (count - 1) / count * (passes.updates * (gradients + weights) + gathers)
    link = min(card.link, ranks.across) * 1e9 * LINK_SHARE
    calls = 2 * shape.layers * micros * (3 if stage == 3 else 1)
    seconds = num_bytes / link + calls * COLLECTIVE_S
    return (TimePart("collectives", seconds, "learner", LINK),)


def measured_parts(
    rates: Rates, scale: float, ranks: int, work: StepWork, passes: Passes
) -> tuple[TimePart, ...]:
    """At measured rates; `scale` is the size of the model over that of the measured one."""
    pass_s = work.forward.total / ranks / rates.learner_flops_per_s
    fixed = rates.learner_fixed_s * scale * passes.updates
    return (
        *_computed(passes, pass_s, MEASURED),
        TimePart("optimiser and collectives", fixed, "learner", MEASURED),
    )
