"""Seats of all actors -> what is in the memory of each device and machine at its fullest moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from t2g_ray.config import GrpoConfig, StageConfig
from t2g_ray.planning.cluster import Cluster, Machine
from t2g_ray.planning.memory.engine import EngineMemory
from t2g_ray.planning.memory.held import GIB, MOMENTS, Footprint, Held, Moment
from t2g_ray.planning.memory.learner import rank_footprint
from t2g_ray.planning.memory.processes import base_bytes
from t2g_ray.planning.parts import KvRoom, MemoryPart, MemoryPlace, Seat
from t2g_ray.planning.shapes import BYTES, ModelShape

STORE_SHARE = 0.3
"""Of a machine's memory that Ray takes for its object store, unless told otherwise."""
GROUP_BYTES = 32
"""Of one generated token, in a group and again when it is scored: id, log-prob, version, text."""
Device = tuple[int, int]
"""Index of the machine, number of the device there."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """All devices in use and all machines, and the KV cache of the smallest engine."""

    places: tuple[MemoryPlace, ...]
    room: KvRoom | None

    @property
    def short(self) -> MemoryPlace | None:
        """The place that misses most; None where everything fits."""
        tight = [place for place in self.places if not place.fits]
        return max(tight, key=lambda place: place.used - (place.capacity or 0), default=None)


def plan_memory(
    config: StageConfig, shape: ModelShape, seats: Sequence[Seat], cluster: Cluster
) -> MemoryPlan:
    """What the actors on their seats will hold."""
    layout = _Layout(config, shape, cluster)
    for seat in seats:
        if seat.role == "learner":
            layout.hold(seat, rank_footprint(config, shape))
    if isinstance(config, GrpoConfig):
        engine = EngineMemory(config, shape)
        for seat in seats:
            if seat.role == "rollout":
                layout.hold(seat, layout.engine(engine, seat))
            elif seat.role == "reward":
                layout.hold(seat, _steady({"process": base_bytes("reward", config.device)}))
    room = min(layout.rooms, key=lambda room: room.num_bytes, default=None)
    return MemoryPlan((*layout.devices(), *layout.machines(seats)), room)


def _steady(host: Mapping[str, int]) -> Footprint:
    return dict.fromkeys(MOMENTS, Held({}, host))


@dataclass(slots=True)
class _Layout:
    """Who is where, while seats are taken one after the other."""

    config: StageConfig
    shape: ModelShape
    cluster: Cluster
    rooms: list[KvRoom] = field(default_factory=list)
    _on: dict[Device, list[tuple[str, Footprint]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _in: dict[int, list[tuple[str, Footprint]]] = field(default_factory=lambda: defaultdict(list))

    def hold(self, seat: Seat, footprint: Footprint) -> None:
        """Let the actor of this seat hold that."""
        for device in seat.devices:
            self._on[seat.machine, device].append((seat.actor, footprint))
        self._in[seat.machine].append((seat.actor, footprint))

    def engine(self, engine: EngineMemory, seat: Seat) -> Footprint:
        """What an engine holds beside those that already are on its devices."""
        if not seat.devices:
            footprint, room = engine.on_cpu()
        else:
            free = [self._free(engine, (seat.machine, device)) for device in seat.devices]
            footprint, room = engine.on_card(min(free))
        self.rooms.append(room)
        return footprint

    def _free(self, engine: EngineMemory, device: Device) -> int:
        """What an engine may take of this device."""
        capacity = self._capacity(device) or 0
        limit = int(engine.config.rollout.gpu_memory_utilization * capacity)
        others = [footprint for _, footprint in self._on[device]]
        if not others:
            return limit
        taken: Sequence[Moment] = ("writing",) if engine.config.colocate == "time" else MOMENTS
        held = sum(max(other[moment].on_device for moment in taken) for other in others)
        return min(limit, capacity - held - engine.context)

    def _capacity(self, device: Device) -> int | None:
        memory_gib = self.cluster.machines[device[0]].cards[device[1]].memory_gib
        return None if memory_gib is None else int(memory_gib * GIB)

    def devices(self) -> Iterator[MemoryPlace]:
        """The devices that somebody is on; of one that is used in turns, each turn."""
        for device in sorted(self._on):
            capacity, holders = self._capacity(device), self._on[device]
            name = f"{self._name(device[0])}, GPU {device[1]}"
            for turn, moments in self._turns(len(holders)).items():
                parts = _fullest(holders, moments)
                if kept := self._kept_free(capacity, device, parts):
                    by = "rollout.gpu_memory_utilization"
                    parts = (*parts, MemoryPart("kept free", kept, by))
                yield MemoryPlace(name + turn, *device, capacity, parts)

    def _turns(self, num_holders: int) -> dict[str, Sequence[Moment]]:
        config = self.config
        if num_holders > 1 and isinstance(config, GrpoConfig) and config.colocate == "time":
            return {
                " (learner's turn)": ("computing", "updating"),
                " (engine's turn)": ("handing over", "writing"),
            }
        return {"": MOMENTS}

    def _kept_free(self, capacity: int | None, device: Device, parts: Sequence[MemoryPart]) -> int:
        """What an engine alone on a device leaves: its share is for what vLLM counts."""
        config = self.config
        holders = self._on[device]
        if capacity is None or len(holders) > 1 or not isinstance(config, GrpoConfig):
            return 0
        if not holders[0][0].startswith("rollout"):
            return 0
        rest = capacity - int(config.rollout.gpu_memory_utilization * capacity)
        outside = sum(p.num_bytes for p in parts if p.name in ("context", "buckets in flight"))
        return max(0, rest - outside)

    def machines(self, seats: Sequence[Seat]) -> Iterator[MemoryPlace]:
        """The memory of every machine, and the part of it that is Ray's object store."""
        for index, machine in enumerate(self.cluster.machines):
            held = list(self._of_processes(index))
            stored = list(self._in_store(index, seats))
            total = None if machine.host_gib is None else int(machine.host_gib * GIB)
            name = self._name(index)
            yield MemoryPlace(f"{name}, host", index, None, total, (*held, *stored))
            if stored and total is not None:
                store = int(STORE_SHARE * total)
                yield MemoryPlace(f"{name}, object store", index, None, store, tuple(stored))

    def _of_processes(self, index: int) -> Iterator[MemoryPart]:
        device = self.config.device
        yield MemoryPart("process", base_bytes("Ray", device), "Ray")
        if index == 0:
            yield MemoryPart("process", base_bytes("run", device), "run")
            if not isinstance(self.config, GrpoConfig):
                yield MemoryPart("process", base_bytes("trainer", device), "Ray Train")
        for actor, footprint in self._in[index]:
            # A process keeps what it once had: its fullest moment, whenever that is.
            held = max((dict(_of_host(one, device)) for one in footprint.values()), key=_total)
            yield from (MemoryPart(name, size, actor) for name, size in held.items())

    def _in_store(self, index: int, seats: Sequence[Seat]) -> Iterator[MemoryPart]:
        config = self.config
        if not isinstance(config, GrpoConfig):
            return
        here = [seat for seat in seats if seat.machine == index]
        engines = sum(seat.role == "rollout" for seat in here)
        if engines:
            groups = (config.max_staleness + 1) * config.prompts_begun
            tokens = groups * config.group_size * config.sampling.max_new_tokens
            share = GROUP_BYTES * tokens * engines // config.rollout.actors
            yield MemoryPart("groups", share, "Ray")
        is_first = any(seat.actor == "learner/0" for seat in here)
        if config.sync.transport == "store" and (engines or is_first):
            sent = BYTES[config.rollout.dtype] * self.shape.parameters
            yield MemoryPart("buckets in flight", sent, "Ray")

    def _name(self, index: int) -> str:
        machine: Machine = self.cluster.machines[index]
        return f"machine {index} ({machine.name})"


def _fullest(
    holders: Sequence[tuple[str, Footprint]], moments: Sequence[Moment]
) -> tuple[MemoryPart, ...]:
    """What is on a device in that of these moments in which it is most."""
    filled = [
        tuple(
            MemoryPart(name, size, actor)
            for actor, footprint in holders
            for name, size in footprint[moment].device.items()
        )
        for moment in moments
    ]
    return max(filled, key=lambda parts: sum(part.num_bytes for part in parts))


def _of_host(held: Held, device: str) -> Iterator[tuple[str, int]]:
    if device == "cpu":
        yield from held.device.items()
    yield from held.host.items()


def _total(parts: Mapping[str, int]) -> int:
    return sum(parts.values())
