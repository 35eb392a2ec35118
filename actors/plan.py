"""Configuration and planned machines -> where a run would put its actors; starts nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from actors.cluster.devices import Demand, Node, homes_of
from actors.cluster.placement import demands_of, nodes_to_plan_for, place
from t2g_ray.config import StageConfig
from t2g_ray.planning.cards import Card, find_card
from t2g_ray.planning.cluster import ROLES, Cluster, Machine
from t2g_ray.planning.memory.held import GIB
from t2g_ray.planning.parts import Seat
from t2g_ray.planning.plan import Plan, make_plan
from t2g_ray.planning.shapes import read_shape
from t2g_ray.run.device.gpus import Gpu, visible_gpus
from t2g_ray.run.machine import memory_gib

ENOUGH_CPUS = 1e6
"""Of a machine whose CPUs are not known."""
_ACCELERATOR = "accelerator_type:"


def nodes_of(cluster: Cluster) -> list[Node]:
    """The machines as the placement of actors knows them."""
    return [
        Node(
            f"machine {index} ({machine.name})",
            {
                "CPU": ENOUGH_CPUS if machine.cpus is None else float(machine.cpus),
                "GPU": float(len(machine.cards)),
                **dict.fromkeys(machine.roles, 1.0),
            },
        )
        for index, machine in enumerate(cluster.machines)
    ]


def seats_of(config: StageConfig, cluster: Cluster) -> tuple[Seat, ...]:
    """Where each actor would be. Raises PlacementError where one finds no place.

    Ray chooses the nodes of actors without devices: learner ranks fill one machine after the other,
    others are spread.
    """
    nodes = nodes_of(cluster)
    placement = place(demands_of(config), nodes)
    seats = {
        holder.actor: Seat(holder.actor, slot.node, slot.devices)
        for slot in placement.slots
        for holder in slot.holders
    }
    load = Counter[int]()
    for demand in placement.demands:
        if demand.actor not in seats:
            seats[demand.actor] = Seat(demand.actor, _home_of(demand, nodes, load))
    return tuple(seats[demand.actor] for demand in placement.demands)


def plan_run(config: StageConfig, cluster: Cluster, *, like: str | None = None) -> Plan | None:
    """The plan of a run on these machines; None where the sizes of its model, or of the one that it
    is said to be like, are not known. Raises PlacementError where an actor finds no place."""
    model = like or config.model
    shape = read_shape(model)
    if shape is None:
        return None
    return make_plan(config, model, shape, lambda one: seats_of(one, cluster), cluster)


def _home_of(demand: Demand, nodes: Sequence[Node], load: Counter[int]) -> int:
    homes = sorted(homes_of(demand.role, nodes))
    home = homes[0] if demand.role == "learner" else min(homes, key=lambda one: load[one])
    load[home] += 1
    return home


def cluster_here() -> Cluster:
    """The cluster of RAY_ADDRESS, else this machine; starts nothing."""
    nodes = nodes_to_plan_for()
    if os.environ.get("RAY_ADDRESS"):
        return Cluster(tuple(map(_machine_of, nodes)), "the cluster of RAY_ADDRESS")
    (node,) = nodes
    num_gpus = int(node.resources.get("GPU", 0))
    cards = tuple(_card_of(gpu) for gpu in visible_gpus().devices[:num_gpus])
    cpus = node.resources.get("CPU")
    machine = Machine(name=node.name, cards=cards, cpus=cpus, host_gib=memory_gib())
    return Cluster((machine,), "this machine")


def _card_of(gpu: Gpu) -> Card:
    """A device with its own memory, and its name in the table where it is there."""
    known = find_card(gpu.name) or Card(name=gpu.name, memory_gib=None)
    return replace(known, memory_gib=gpu.memory_gib)


def _machine_of(node: Node) -> Machine:
    """What Ray knows of a node: it names the kind of its GPUs."""
    kinds = [key.removeprefix(_ACCELERATOR) for key in node.resources if _ACCELERATOR in key]
    kind = kinds[0] if kinds else "unknown"
    card = find_card(kind) or Card(name=kind, memory_gib=None)
    bytes_ = sum(node.resources.get(key, 0.0) for key in ("memory", "object_store_memory"))
    return Machine(
        name=node.name,
        cards=(card,) * node.num_gpus,
        cpus=node.resources.get("CPU"),
        host_gib=bytes_ / GIB if bytes_ else None,
        roles=tuple(role for role in ROLES if node.resources.get(role)),
    )
