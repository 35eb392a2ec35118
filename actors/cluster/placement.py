"""Configuration and cluster -> what each actor reserves, checked before anything starts.

GPUs are reserved as asked, each actor on devices that are planned for it (devices.py). CPUs are
shared where a machine has fewer than asked for: with max_staleness 0 samplers and learner take
turns anyway, and a laptop must be able to run at all. Invariant: an actor whose reservation was
granted here finds a node, whichever nodes Ray chose for those without a GPU.

Nodes can be kept for a role: where some have a custom resource `learner`, `rollout` or `reward`,
actors of that role run on those nodes only.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.devices import (
    Demand,
    Node,
    PlacementError,
    Slot,
    device_table,
    homes_of,
    plan_devices,
)
from actors.cluster.handles import Ref
from actors.cluster.waiting import results_of
from t2g_ray.config import DeadlineConfig, GrpoConfig, StageConfig

_ROOM = 0.95
"""Share of the CPUs that actors get; the rest is for the program and for Ray's own tasks."""
_FREE_AGAIN_S = 5.0
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Placement:
    """What is reserved: of every actor its CPUs, and the devices with the actors on them."""

    demands: tuple[Demand, ...]
    slots: tuple[Slot, ...]
    nodes: tuple[Node, ...]

    @property
    def device_table(self) -> str:
        """Devices and the actors on them; empty where no actor has one."""
        return device_table(self.slots, self.nodes) if self.slots else ""


def options_of(demand: Demand) -> dict[str, Any]:
    """Ray options of an actor whose node Ray chooses; nodes share the load of rollouts."""
    return {
        "num_cpus": demand.cpus,
        "scheduling_strategy": "DEFAULT" if demand.role == "learner" else "SPREAD",
        # The resource marks a node and is no amount, so the smallest unit of Ray is asked for.
        "resources": {demand.role: 0.0001} if demand.has_own_nodes else {},
    }


def connect(deadlines: DeadlineConfig | None = None) -> None:
    """Join the cluster this process was submitted to, or start one on this machine."""
    if ray.is_initialized():
        return
    address, port = os.environ.get("RAY_ADDRESS"), os.environ.get("T2G_METRICS_PORT")
    folder = Path.cwd()
    ray.init(
        # "local": Ray would otherwise look for a cluster that was once started here, dead or alive.
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=bool(os.environ.get("T2G_ACTOR_LOGS")),
        configure_logging=True,
        logging_level=logging.ERROR,
        # A cluster that is there has its own; any free one where none is named.
        _metrics_export_port=int(port) if port and not address else None,
    )
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1:
        _unpack_job_files(nodes, deadlines or DeadlineConfig())
        os.chdir(folder)


def _unpack_job_files(nodes: Sequence[str], deadlines: DeadlineConfig) -> None:
    """Wait until every node holds the files of this job.

    Nodes on one machine share a folder of files, and each removes it before it unpacks its own
    copy there: an actor that already works in it would lose its working directory, and MKL ends
    a process that has none.
    """
    task: Any = ray.remote(num_cpus=0)(_nothing)
    calls: list[Ref[None]] = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=True)
        calls.append(Ref(f"node {node}", task.options(scheduling_strategy=there).remote()))
    results_of(calls, "unpacking of this job's files on all nodes", deadlines.start)


def _nothing() -> None:
    pass


def demands_of(config: StageConfig) -> list[Demand]:
    """What the configuration asks for, before any sharing.

    Raises PlacementError where ranks of the supervised stage would meet on a device.
    """
    learner = config.learner
    learners = [Demand("learner", i, learner.threads, learner.gpus) for i in range(learner.ranks)]
    if not isinstance(config, GrpoConfig):
        if 0 < learner.gpus < 1 and learner.ranks > 1:
            raise PlacementError(
                "each learner rank needs a GPU that no other rank is on (NCCL takes no two), found "
                f"learner.gpus={learner.gpus:g} with learner.ranks={learner.ranks}, of which Ray "
                "Train puts several on one; set learner.gpus=1, or learner.ranks=1"
            )
        return learners
    rollout, reward = config.rollout, config.reward
    return [
        *learners,
        *(Demand("rollout", i, rollout.cpus, rollout.gpus) for i in range(rollout.actors)),
        *(Demand("reward", i, 1, 0) for i in range(reward.actors)),
    ]


def place(demands: Sequence[Demand], nodes: Sequence[Node]) -> Placement:
    """What will be reserved on these nodes.

    Raises PlacementError with a table of devices when the GPUs do not fit.
    """
    slots = plan_devices(demands, nodes)
    share = _cpu_share(demands, slots, nodes)
    reserved = {
        demand: replace(
            demand,
            # Rounded down to Ray's smallest unit; a reservation is a share of time, not a core.
            cpus=demand.cpus if share == 1 else max(0.001, int(demand.cpus * share * 1000) / 1000),
            has_own_nodes=any(node.resources.get(demand.role) for node in nodes),
        )
        for demand in demands
    }
    return Placement(
        demands=tuple(reserved[demand] for demand in demands),
        slots=tuple(replace(s, holders=tuple(reserved[h] for h in s.holders)) for s in slots),
        nodes=tuple(nodes),
    )


def _cpu_share(demands: Sequence[Demand], slots: Sequence[Slot], nodes: Sequence[Node]) -> float:
    """The share of the requested CPUs that is reserved, at most 1.

    Actors with devices stand on known nodes. For the others free CPUs are scattered: five actors
    of 0.76 CPUs do not fit on two nodes of 2. Such an actor finds no node only if each of the n
    nodes it may use has less free than it reserves; with all others placed there that cannot be
    while share x (sum of all that may be there + (n - 1) x the actor's own) <= their CPUs.
    """
    shares = [1.0]
    for index, node in enumerate(nodes):
        wanted = sum(slot.cpus for slot in slots if slot.node == index)
        if wanted:
            shares.append(_ROOM * node.resources.get("CPU", 0.0) / wanted)
    for role in {demand.role for demand in demands if not demand.gpus}:
        own = homes_of(role, nodes)
        cpus = [nodes[i].resources["CPU"] for i in own if nodes[i].resources.get("CPU")]
        largest = max(demand.cpus for demand in demands if demand.role == role)
        rivals = sum(d.cpus for d in demands if homes_of(d.role, nodes) & own)
        shares.append(_ROOM * sum(cpus) / (rivals + max(0, len(cpus) - 1) * largest))
    return min(shares)


def place_now(demands: Sequence[Demand]) -> Placement:
    """`place` on what is free on the cluster now, with a moment for another run's devices.

    Raises PlacementError: at once where the whole cluster is too small.
    """
    place(demands, [replace(node, num_taken=0) for node in cluster_nodes()])
    end = time.monotonic() + _FREE_AGAIN_S
    while True:
        try:
            return place(demands, cluster_nodes())
        except PlacementError:
            # What an ended run held becomes free a little later than its end.
            if time.monotonic() > end:
                raise
        time.sleep(_LOOK_S)


def cluster_nodes() -> list[Node]:
    """The live nodes, with what is taken of their GPUs."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    free = available_resources_per_node() if any(n["Resources"].get("GPU") for n in alive) else {}
    return [_node_of(node, free.get(node["NodeID"], {})) for node in alive]


def _node_of(node: Mapping[str, Any], free: Mapping[str, float]) -> Node:
    resources = dict(node["Resources"])
    # Rounded, since shares are added up in floating point.
    taken = math.ceil(round(resources.get("GPU", 0.0) - free.get("GPU", 0.0), 4))
    return Node(node["NodeManagerAddress"], resources, node["NodeID"], taken)


def nodes_to_plan_for() -> list[Node]:
    """The cluster behind RAY_ADDRESS, else this machine; starts nothing."""
    if os.environ.get("RAY_ADDRESS"):
        connect()
        return cluster_nodes()
    import torch

    resources = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    return [Node("this machine", resources)]


def plan_table(config: StageConfig) -> str:
    """Derived sizes and reservations: the first part of what `t2g plan` prints."""
    lines = [f"seed {config.seed}, model {config.model}, run folder {config.run_dir}"]
    if not isinstance(config, GrpoConfig):
        return "\n".join([*lines, f"{config.learner.ranks} learner ranks"])
    completions = config.prompts_per_step * config.group_size
    lines += [
        f"{config.prompts_per_step} prompts x {config.group_size} completions = {completions} "
        f"samples a step, {config.steps} steps, {config.steps * completions} completions in all",
        f"at most {(config.max_staleness + 1) * config.prompts_begun} groups exist at a time",
    ]
    lines += [f"{d.actor}: {d.cpus:g} CPU, {d.gpus:g} GPU" for d in demands_of(config)]
    return "\n".join(lines)


def fit_lines(config: StageConfig, nodes: Sequence[Node]) -> str:
    """The devices of all actors and how the configuration fits: the end of what `t2g plan` prints.

    Raises PlacementError where it does not.
    """
    asked = demands_of(config)
    placement = place(asked, nodes)
    share = placement.demands[0].cpus / asked[0].cpus
    shared = "" if share == 1 else f", each with {share:.0%} of the CPUs it asks for"
    fit = f"{len(asked)} actors fit on {len(nodes)} nodes{shared}"
    return "\n".join(filter(None, [placement.device_table, fit]))
