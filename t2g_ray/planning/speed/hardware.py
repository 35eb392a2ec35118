"""What a run computes on: cards of the table, or a machine whose rates were measured."""

from __future__ import annotations

from dataclasses import dataclass

from t2g_ray.config import LearnerConfig
from t2g_ray.planning.cards import Card
from t2g_ray.planning.shares import NETWORK
from t2g_ray.planning.speed.rates import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a run computes on."""

    source: Card | Rates
    """A card of the table, or rates that were measured."""
    engine_card: Card | None = None
    """That of the engines, where it is another one."""
    is_one_node: bool = False
    """Whether learner and engines share a node: weights then pass no network."""
    ranks_of_node: int = 8
    """Learner ranks that one node has room for."""
    network: float = NETWORK
    """Between nodes, each way, GB/s."""
    cores: float | None = None
    """Of the machine, where actors compute on CPUs; None: enough."""
    cached_sequences: int | None = None
    """Sequences of the mean length that an engine's cache holds; None: enough."""

    def __post_init__(self) -> None:
        for card in (self.source, self.engine_card):
            if isinstance(card, Card) and not card.tflops:
                raise ValueError(
                    "the speed of a card must be known to plan with it, found no figures of "
                    f"{card.name} in bfloat16; name another card, or give measured --rates"
                )

    @property
    def samplers_card(self) -> Card | None:
        """What engines compute on; None where rates were measured."""
        if isinstance(self.source, Rates):
            return None
        return self.engine_card or self.source

    @property
    def sync_network(self) -> float | None:
        """What weights pass on their way, GB/s; None where they stay on one node."""
        return None if self.is_one_node else self.network

    def crowding(self, threads: float, learner: LearnerConfig, measured: float) -> float:
        """How much slower more threads than cores are, beyond what was `measured` of it already;
        1 on GPUs."""
        if learner.gpus or not self.cores:
            return 1.0
        return max(1.0, threads / self.cores) / measured
