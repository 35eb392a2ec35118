"""Configuration, model and cluster -> one plan: memory of every place, time, and what to change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from t2g_ray.config import StageConfig
from t2g_ray.planning.cluster import Cluster
from t2g_ray.planning.memory.changes import Seating, smallest_change
from t2g_ray.planning.memory.places import MemoryPlan, plan_memory
from t2g_ray.planning.parts import Change, MemoryPlace, Seat, Speed
from t2g_ray.planning.shapes import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will need and give."""

    model: str
    shape: ModelShape
    cluster: Cluster
    seats: tuple[Seat, ...]
    memory: MemoryPlan
    change: Change | None
    """With which it would fit; None where it fits, or where no change of the list is enough."""
    speed: Speed | None = None

    @property
    def fits(self) -> bool:
        """Whether every place holds what is to be in it."""
        return self.memory.short is None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values, and what follows from them; bytes and seconds."""
        room = self.memory.room
        return {
            "model": self.model,
            "parameters": self.shape.parameters,
            "cluster": asdict(self.cluster),
            "seats": [asdict(seat) for seat in self.seats],
            "fits": self.fits,
            "places": [_as_json(place) for place in self.memory.places],
            "kv_cache": None if room is None else {**asdict(room), "sequences": room.sequences},
            "change": None if self.change is None else dict(self.change.settings),
            "speed": None if self.speed is None else _speed_as_json(self.speed),
        }


def _speed_as_json(speed: Speed) -> dict[str, Any]:
    # Infinite in the supervised stage, which has one side; no number in JSON.
    imbalance = speed.imbalance if speed.rollouts else None
    return {
        **asdict(speed),
        "tokens_per_s": speed.tokens_per_s,
        "generated_tokens_per_s": speed.generated_tokens_per_s,
        "bottleneck": speed.bottleneck,
        "imbalance": imbalance,
    }


def _as_json(place: MemoryPlace) -> dict[str, Any]:
    return {**asdict(place), "used": place.used, "fits": place.fits}


def make_plan(
    config: StageConfig, model: str, shape: ModelShape, seating: Seating, cluster: Cluster
) -> Plan:
    """The plan without its time. Raises ValueError, of `seating`, where actors find no place."""
    seats = tuple(seating(config))
    memory = plan_memory(config, shape, seats, cluster)
    is_short = memory.short is not None
    change = smallest_change(config, shape, seating, cluster) if is_short else None
    return Plan(
        model=model, shape=shape, cluster=cluster, seats=seats, memory=memory, change=change
    )
