"""Places of a plan -> groups of those that hold the same, which are shown once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from t2g_ray.planning.parts import MemoryPlace


@dataclass(frozen=True, slots=True)
class Alike:
    """Places with equal parts, whoever holds them, and equal capacity."""

    places: tuple[MemoryPlace, ...]

    @property
    def first(self) -> MemoryPlace:
        """One of them, for all."""
        return self.places[0]

    @property
    def title(self) -> str:
        """Example: "6 x GPU of rollout/0 to rollout/5"."""
        kind = _kind(self.first)
        count = f"{len(self.places)} x {kind}" if len(self.places) > 1 else self.first.name
        holders = sorted(
            {p.holder for place in self.places for p in place.parts if "/" in p.holder},
            key=_number,
        )
        if self.first.device is None or not holders:
            return count
        last = f" to {holders[-1]}" if len(holders) > 2 else f" and {holders[-1]}"
        return f"{count} of {holders[0]}{last if len(holders) > 1 else ''}"

    @property
    def sums(self) -> dict[str, int]:
        """Bytes by role and name of the part, those of several holders of a role together."""
        sums = dict[str, int]()
        for part in self.first.parts:
            role = part.holder.partition("/")[0]
            name = part.name if part.name == "kept free" else f"{role}: {part.name}"
            sums[name] = sums.get(name, 0) + part.num_bytes
        return sums


def _number(actor: str) -> tuple[str, int]:
    """Role and number of an actor."""
    role, _, number = actor.partition("/")
    return role, int(number)


def _kind(place: MemoryPlace) -> str:
    """GPU, host or object store."""
    kind = place.name.rpartition(", ")[2]
    return kind if place.device is None else kind.replace(f"GPU {place.device}", "GPU", 1)


def alike(places: Iterable[MemoryPlace]) -> list[Alike]:
    """The groups, in the order of their first places."""
    groups: dict[object, list[MemoryPlace]] = {}
    for place in places:
        key = (_kind(place), place.capacity, tuple(Alike((place,)).sums.items()))
        groups.setdefault(key, []).append(place)
    return [Alike(tuple(group)) for group in groups.values()]
