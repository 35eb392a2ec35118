"""A placement -> Ray's placement group, a bundle for each device, and which device each one is.

Actors that share a device reserve shares of one bundle. A bundle holds its devices whole, so no
other program gets the rest, and it is tied to the node that the plan names. Ray removes the group
when the program that made it ends in whatever way. Invariant: while it is held, an actor of the
placement sees the devices of its slot and no others.
"""

from __future__ import annotations

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
class Reservation:
    """The devices of a placement, held until `release`."""

    placement: Placement
    group: PlacementGroup | None
    """None where no actor has a GPU."""
    devices: tuple[tuple[str, ...], ...]
    """For each slot the numbers that its node gives the devices."""

    def options(self, demand: Demand) -> dict[str, Any]:
        """Ray options of one of the actors."""
        bundle = self._bundle(demand)
        if bundle is None:
            return options_of(demand)
        strategy = PlacementGroupSchedulingStrategy(
            self.group, placement_group_bundle_index=bundle
        )
        gpus = min(demand.gpus, len(self.placement.slots[bundle].devices))
        return {"num_cpus": demand.cpus, "num_gpus": gpus, "scheduling_strategy": strategy}

    def where(self, demand: Demand) -> str:
        """Words for the device of one of the actors; empty where it has none."""
        bundle = self._bundle(demand)
        if bundle is None:
            return ""
        node = self.placement.nodes[self.placement.slots[bundle].node]
        return f"GPU {','.join(self.devices[bundle])} of node {node.name}"

    def find(self, role: str, number: int) -> Demand | None:
        """What was reserved for an actor."""
        for demand in self.placement.demands:
            if (demand.role, demand.number) == (role, number):
                return demand
        return None

    def release(self) -> None:
        """Give the devices back; actors that still hold one are ended."""
        if self.group is not None:
            remove_placement_group(self.group)

    def _bundle(self, demand: Demand) -> int | None:
        for index, slot in enumerate(self.placement.slots):
            if demand in slot.holders:
                return index
        return None


def reserve(placement: Placement, deadline: Deadline) -> Reservation:
    """Hold the devices of all actors.

    Raises PlacementError where the cluster has no room for them any more, and LoopError where a
    node does not answer within `deadline`.
    """
    if not placement.slots:
        return Reservation(placement, None, ())
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
        return Reservation(placement, group, _devices_of(placement.slots, group, deadline))
    except BaseException:
        remove_placement_group(group)
        raise


def _devices_of(
    slots: tuple[Slot, ...], group: PlacementGroup, deadline: Deadline
) -> tuple[tuple[str, ...], ...]:
    """Ask every bundle for its devices."""
    task: Any = ray.remote(num_cpus=0, max_retries=0)(_visible_devices)
    calls: list[Ref[tuple[str, ...]]] = []
    for index, slot in enumerate(slots):
        here = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        asked = task.options(num_gpus=len(slot.devices), scheduling_strategy=here).remote()
        calls.append(Ref(f"device {index} of the plan", asked))
    return tuple(results_of(calls, "question for the devices", deadline))


def _visible_devices() -> tuple[str, ...]:
    ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return tuple(map(str, ids))
