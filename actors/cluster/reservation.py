"""A placement -> Ray's placement group, a bundle for each device, and which device each one is.

Actors that share a device reserve shares of one bundle. A bundle holds its devices whole, so no
other program gets the rest, and it is tied to the node that the plan names. Ray removes the group
when the program that made it ends in whatever way. Invariant: while it is held, an actor of the
placement sees the devices of its slot and no others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.cluster.devices import Demand, PlacementError, Slot
from actors.cluster.handles import Ref
from actors.cluster.placement import Placement, options_of
from actors.cluster.waiting import results_of
from t2g_ray.config import Deadline

_GROUP_S = 8.0
"""Seconds within which Ray must have made the group; the plan has said that there is room."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one actor starts."""

    role: str
    number: int
    options: Mapping[str, Any]
    """For Ray: what it reserves, and where."""
    where: str = ""
    """Its GPUs in words; empty where it has none."""

    @property
    def actor(self) -> str:
        """Its name in a run."""
        return f"{self.role}/{self.number}"


@dataclass(frozen=True, slots=True)
class Reservation:
    """The devices of a placement, held until `release`."""

    seats: tuple[Seat, ...] = ()
    group: PlacementGroup | None = None
    """None where no actor has a GPU."""

    def seat(self, role: str, number: int) -> Seat | None:
        """The seat that was reserved for an actor."""
        found = (seat for seat in self.seats if (seat.role, seat.number) == (role, number))
        return next(found, None)

    def release(self) -> None:
        """Give the devices back; actors that still hold one are ended."""
        if self.group is not None:
            remove_placement_group(self.group)


def reserve(placement: Placement, deadline: Deadline) -> Reservation:
    """Hold the devices of all actors.

    Raises PlacementError where the cluster has no room for them any more, and LoopError where a
    node does not answer within `deadline`.
    """
    if not placement.slots:
        return Reservation(tuple(map(_seat_anywhere, placement.demands)))
    group = placement_group(
        [{"GPU": len(slot.devices), "CPU": round(slot.cpus, 4)} for slot in placement.slots],
        strategy="PACK",
        bundle_label_selector=[
            {"ray.io/node-id": placement.nodes[slot.node].id} for slot in placement.slots
        ],
    )
    try:
        if not group.wait(_GROUP_S):
            raise PlacementError(
                f"the planned devices and their CPUs must be free, found them taken after "
                f"{_GROUP_S:g} s; wait until the other program ends\n{placement.device_table}"
            )
        devices = _devices_of(placement.slots, group, deadline)
        return Reservation(tuple(_seats(placement, group, devices)), group)
    except BaseException:
        remove_placement_group(group)
        raise


def _seats(
    placement: Placement, group: PlacementGroup, devices: Sequence[tuple[str, ...]]
) -> Iterator[Seat]:
    bundles = {holder: i for i, slot in enumerate(placement.slots) for holder in slot.holders}
    for demand in placement.demands:
        if demand not in bundles:
            yield _seat_anywhere(demand)
            continue
        bundle = bundles[demand]
        node = placement.nodes[placement.slots[bundle].node]
        options = {
            "num_cpus": demand.cpus,
            "num_gpus": demand.gpus,
            "scheduling_strategy": _in_bundle(group, bundle),
        }
        where = f"GPU {','.join(devices[bundle])} of node {node.name}"
        yield Seat(demand.role, demand.number, options, where)


def _seat_anywhere(demand: Demand) -> Seat:
    return Seat(demand.role, demand.number, options_of(demand))


def _in_bundle(group: PlacementGroup, bundle: int) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)


def _devices_of(
    slots: tuple[Slot, ...], group: PlacementGroup, deadline: Deadline
) -> tuple[tuple[str, ...], ...]:
    """Ask every bundle for its devices."""
    # Sent as code, so that the process that runs it need not load this package first.
    task: Any = ray.remote(
        lambda: (tuple(map(str, ray.get_gpu_ids())), os.environ.get("CUDA_VISIBLE_DEVICES"))
    )
    calls: list[Ref[tuple[tuple[str, ...], str | None]]] = []
    for index, slot in enumerate(slots):
        here = _in_bundle(group, index)
        asked = task.options(num_cpus=0, num_gpus=len(slot.devices), scheduling_strategy=here)
        calls.append(Ref(f"device {index} of the plan", asked.remote()))
    found = results_of(calls, "question for the devices", deadline)
    for devices, shown in found:
        check_shown(devices, shown)
    return tuple(devices for devices, _ in found)


def check_shown(devices: Sequence[str], shown: str | None) -> None:
    """Raises PlacementError where Ray does not show an actor just the devices it has reserved."""
    if shown != ",".join(devices):
        raise PlacementError(
            f"an actor that has reserved GPU {','.join(devices)} must see it and no other, found "
            f"CUDA_VISIBLE_DEVICES={shown}; start Ray on all nodes without "
            "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
        )
