"""What each actor needs of GPUs -> the devices that it gets, or a table that says why it cannot.

Learner ranks lie on as few nodes as possible and each on a device of its own, since NCCL takes no
two ranks on one. Rollout actors are spread over nodes. Learner i and rollout i share one device
where their shares add up to at most 1. An engine on several devices has all of them on one node.
Invariant: what is refused fits in no way that keeps these rules; only ranks with several devices
each are packed by a rule of thumb.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_LEAST = 1e-6
"""Shares are added up in floating point."""


class PlacementError(ValueError):
    """The cluster cannot hold what the configuration asks for."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one actor reserves. `role` is learner, rollout, reward or teacher."""

    role: str
    number: int
    cpus: float
    gpus: float
    has_own_nodes: bool = False

    @property
    def actor(self) -> str:
        """Its name in a run."""
        return f"{self.role}/{self.number}"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster."""

    name: str
    """Its address."""
    resources: Mapping[str, float]
    """Ray's: CPU, GPU, and those that keep the node for a role."""
    id: str = ""
    num_taken: int = 0
    """GPUs of which other programs have reserved a part or all."""

    @property
    def num_gpus(self) -> int:
        """Free devices."""
        return max(0, int(self.resources.get("GPU", 0)) - self.num_taken)


@dataclass(frozen=True, slots=True)
class Slot:
    """One device, or those of one engine, and the actors on it."""

    node: int
    """Index of the node."""
    devices: tuple[int, ...]
    """Numbers among the free devices of the node."""
    holders: tuple[Demand, ...]

    @property
    def free(self) -> float:
        """The share that nobody has reserved."""
        return max(0.0, len(self.devices) - sum(demand.gpus for demand in self.holders))

    @property
    def cpus(self) -> float:
        """What its actors reserve together."""
        return sum(demand.cpus for demand in self.holders)


def homes_of(role: str, nodes: Sequence[Node]) -> frozenset[int]:
    """Indices of the nodes that actors of this role may run on."""
    own = frozenset(i for i, node in enumerate(nodes) if node.resources.get(role))
    return own or frozenset(range(len(nodes)))


def plan_devices(demands: Sequence[Demand], nodes: Sequence[Node]) -> list[Slot]:
    """The devices in use, with the actors on them; actors without a GPU are left out.

    Raises PlacementError with a table of devices.
    """
    asking = [demand for demand in demands if demand.gpus]
    for demand in asking:
        if demand.gpus > 1 and demand.gpus != int(demand.gpus):
            raise PlacementError(
                f"an actor has a share of one GPU or a whole number of them, found {demand.gpus:g} "
                f"for {demand.actor}; set {demand.role}.gpus to a whole number or to at most 1"
            )
    learners = [demand for demand in asking if demand.role == "learner"]
    others = [demand for demand in asking if demand.role != "learner"]
    units = [_with_partner(learner, others, nodes) for learner in learners]
    placed = {demand for unit in units for demand in unit}
    others = [demand for demand in others if demand not in placed]
    board = _Board(nodes)
    for way in _ways(units, others, nodes):
        board = _Board(nodes)
        if board.lay(units, way) and all(map(board.spread, others)):
            return board.slots()
    if not asking:
        return []
    raise PlacementError(_refusal(board, asking, nodes))


def _with_partner(
    learner: Demand, others: Sequence[Demand], nodes: Sequence[Node]
) -> tuple[Demand, ...]:
    """The learner rank, and the rollout actor that shares its device."""
    for other in others:
        if other.role != "rollout" or other.number != learner.number:
            continue
        is_shared = learner.gpus + other.gpus <= 1 + _LEAST
        if is_shared and homes_of("learner", nodes) & homes_of("rollout", nodes):
            return learner, other
    return (learner,)


def _ways(
    units: Sequence[tuple[Demand, ...]], others: Sequence[Demand], nodes: Sequence[Node]
) -> Iterator[dict[int, int]]:
    """Ways to lay the units of the learner over nodes, as numbers of units; compact ones first.

    The last way takes first what no engine can use, then the devices of one engine after the
    other: where any way leaves room for all engines, this one does.
    """
    if not units:
        yield {}
        return
    each = max(1, math.ceil(units[0][0].gpus))
    homes = homes_of("learner", nodes)
    if any(len(unit) > 1 for unit in units):
        homes &= homes_of("rollout", nodes)
    room = {i: nodes[i].num_gpus // each for i in sorted(homes)}
    for node in sorted(room, key=room.__getitem__):
        if room[node] >= len(units):
            yield {node: len(units)}
    yield _filled([(i, room[i]) for i in sorted(room, key=lambda i: -room[i])], len(units))
    engine = max((math.ceil(demand.gpus) for demand in others), default=1)
    shared = frozenset[int]().union(*(homes_of(demand.role, nodes) for demand in others))
    scraps = [(i, nodes[i].num_gpus % engine if i in shared else room[i]) for i in room]
    engines = [(i, engine) for i in room if i in shared for _ in range(nodes[i].num_gpus // engine)]
    yield _filled([*((i, number // each) for i, number in scraps), *engines], len(units))


def _filled(parts: Sequence[tuple[int, int]], number: int) -> dict[int, int]:
    """`number` laid over nodes by taking from (node, how many there are) in order."""
    way: dict[int, int] = {}
    for node, room in parts:
        taken = min(room, number)
        way[node] = way.get(node, 0) + taken
        number -= taken
    return way


@dataclass(slots=True)
class _Device:
    node: int
    numbers: tuple[int, ...]
    holders: list[Demand] = field(default_factory=list)

    def has_room(self, gpus: float) -> bool:
        held = sum(demand.gpus for demand in self.holders)
        return held + gpus <= len(self.numbers) + _LEAST


class _Board:
    """Devices that are in use, while actors are laid on them one after the other."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._devices: list[_Device] = []
        self.homeless: Demand | None = None
        """The first actor that found no device."""

    def slots(self) -> list[Slot]:
        return [Slot(d.node, d.numbers, tuple(d.holders)) for d in self._devices]

    def lay(self, units: Sequence[tuple[Demand, ...]], way: Mapping[int, int]) -> bool:
        """Give every unit devices of its own, `way` units on a node; False where one finds none."""
        seats = [node for node, number in way.items() for _ in range(number)]
        for index, unit in enumerate(units):
            need = max(1, math.ceil(unit[0].gpus))
            if index >= len(seats) or self._num_free(seats[index]) < need:
                self.homeless = unit[0]
                return False
            self._open(seats[index], need).holders.extend(unit)
        return True

    def spread(self, demand: Demand) -> bool:
        """Put one more actor where fewest of its role are; False where it finds no device."""
        homes = sorted(homes_of(demand.role, self._nodes), key=lambda i: self._load(i, demand.role))
        need = math.ceil(demand.gpus)
        for node in homes:
            if self._num_free(node) >= need:
                self._open(node, need).holders.append(demand)
                return True
        # Shared with its own kind rather than with a learner that has other work.
        used = [d for d in self._devices if d.node in homes and d.has_room(demand.gpus)]
        if not used:
            self.homeless = demand
            return False
        best = min(used, key=lambda d: (d.holders[0].role == "learner", homes.index(d.node)))
        best.holders.append(demand)
        return True

    def _load(self, node: int, role: str) -> tuple[int, int]:
        held = sum(h.role == role for d in self._devices if d.node == node for h in d.holders)
        return held, -self._num_free(node)

    def _num_free(self, node: int) -> int:
        return self._nodes[node].num_gpus - self._num_used(node)

    def _num_used(self, node: int) -> int:
        return sum(len(d.numbers) for d in self._devices if d.node == node)

    def _open(self, node: int, number: int) -> _Device:
        first = self._num_used(node)
        self._devices.append(_Device(node, tuple(range(first, first + number))))
        return self._devices[-1]


def device_table(slots: Sequence[Slot], nodes: Sequence[Node]) -> str:
    """Every device: node, number, who is on it, what is free; a line each."""
    rows = [("node", "GPU", "actors", "free")]
    for index, node in enumerate(nodes):
        here = {device: slot for slot in slots if slot.node == index for device in slot.devices}
        for device in range(node.num_gpus):
            rows.append((node.name, str(device), *_cells(here.get(device))))
        if node.num_taken:
            rows.append((node.name, f"{node.num_taken} more", "another program", "0"))
        if not int(node.resources.get("GPU", 0)):
            rows.append((node.name, "none", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    return "\n".join("  " + line.rstrip() for line in lines)


def _cells(slot: Slot | None) -> tuple[str, str]:
    """Who is on a device and what is free of it."""
    if slot is None:
        return "", "1"
    actors = ", ".join(f"{demand.actor} {min(1.0, demand.gpus):g}" for demand in slot.holders)
    return actors, f"{round(slot.free / len(slot.devices), 4):g}"


def _refusal(board: _Board, asking: Sequence[Demand], nodes: Sequence[Node]) -> str:
    homeless = board.homeless
    assert homeless is not None  # the last way failed
    asked = sum(demand.gpus for demand in asking)
    there = sum(node.num_gpus for node in nodes)
    roles = sorted({demand.role for demand in asking})
    counts = {"learner": "learner.ranks", "rollout": "rollout.actors", "teacher": "teacher.actors"}
    change = ", ".join([*(counts[role] for role in roles), *(f"{role}.gpus" for role in roles)])
    return (
        f"every actor must find its devices, on one node: {homeless.actor} with {homeless.gpus:g} "
        f"GPUs found none ({asked:g} GPUs asked for, {there} free devices"
        f"{_rule_for(homeless, nodes)})\n{device_table(board.slots(), nodes)}\n"
        f"lower {change}, or add nodes"
    )


def _rule_for(homeless: Demand, nodes: Sequence[Node]) -> str:
    """What is special about the actor that found no device."""
    own = sorted(nodes[i].name for i in homes_of(homeless.role, nodes))
    if len(own) < len(nodes):
        return f"; {homeless.role} actors run only on {', '.join(own)}, kept for them by a resource"
    if homeless.role == "learner":
        return "; each learner rank needs a device that no other rank is on"
    return ""
