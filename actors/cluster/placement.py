"""Configuration and cluster -> what each actor reserves, checked before anything starts.

GPUs are reserved as asked. CPUs are shared where a machine has fewer than asked for: with
max_staleness 0 samplers and learner take turns anyway, and a laptop must be able to run at all.
Invariant: an actor whose reservation was granted here finds a node, whichever nodes Ray chose
for the others.

Nodes can be kept for a role: where some have a custom resource `learner`, `rollout` or `reward`,
actors of that role run on those nodes only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.handles import Ref
from actors.cluster.waiting import results_of
from t2g_ray.config import DeadlineConfig, GrpoConfig, StageConfig


class PlacementError(ValueError):
    """The cluster cannot hold what the configuration asks for."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one actor reserves. `role` is learner, rollout or reward."""

    role: str
    number: int
    cpus: float
    gpus: float
    has_own_nodes: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Ray options of the actor; rollouts are spread so that nodes share the load."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "scheduling_strategy": "DEFAULT" if self.role == "learner" else "SPREAD",
            # The resource marks a node and is no amount, so the smallest unit of Ray is asked for.
            "resources": {self.role: 0.0001} if self.has_own_nodes else {},
        }


def connect(deadlines: DeadlineConfig | None = None) -> None:
    """Join the cluster this process was submitted to, or start one on this machine."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    folder = Path.cwd()
    ray.init(
        # "local": Ray would otherwise look for a cluster that was once started here, dead or alive.
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=bool(os.environ.get("T2G_ACTOR_LOGS")),
        configure_logging=True,
        logging_level=logging.ERROR,
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


def bundles_of(config: StageConfig) -> list[Bundle]:
    """What the configuration asks for, before any sharing."""
    learner = config.learner
    learners = [Bundle("learner", i, learner.threads, learner.gpus) for i in range(learner.ranks)]
    if not isinstance(config, GrpoConfig):
        return learners
    rollout, reward = config.rollout, config.reward
    return [
        *learners,
        *(Bundle("rollout", i, rollout.threads, rollout.gpus) for i in range(rollout.actors)),
        *(Bundle("reward", i, 1, 0) for i in range(reward.actors)),
    ]


def place(bundles: Sequence[Bundle], nodes: Iterable[Mapping[str, float]]) -> list[Bundle]:
    """Bundles as they will be reserved on nodes of {"CPU": c, "GPU": g}.

    Raises PlacementError with requested against available when the GPUs do not fit.
    """
    capacity = [dict(node) for node in nodes]
    homes = {b.role: _homes(b.role, capacity) for b in bundles}
    _check_gpus(bundles, homes, capacity)
    share = _cpu_share(bundles, homes, capacity)
    return [
        replace(
            b,
            # Rounded down to Ray's smallest unit; a reservation is a share of time, not a core.
            cpus=b.cpus if share == 1 else max(0.001, int(b.cpus * share * 1000) / 1000),
            has_own_nodes=any(node.get(b.role) for node in capacity),
        )
        for b in bundles
    ]


def _homes(role: str, nodes: Sequence[Mapping[str, float]]) -> frozenset[int]:
    """Indices of the nodes that actors of this role may run on."""
    own = frozenset(i for i, node in enumerate(nodes) if node.get(role))
    return own or frozenset(range(len(nodes)))


def _cpu_share(
    bundles: Sequence[Bundle],
    homes: Mapping[str, frozenset[int]],
    nodes: Sequence[Mapping[str, float]],
) -> float:
    """The share of the requested CPUs that is reserved, at most 1.

    Free CPUs are scattered over nodes: five actors of 0.76 CPUs do not fit on two nodes of 2.
    An actor finds no node only if each of the n nodes it may use has less free than it reserves;
    with all others placed there that cannot be while
    share x (sum of all that may be there + (n - 1) x the actor's own) <= CPUs of the n nodes.
    """
    shares = [1.0]
    for role, own in homes.items():
        cpus = [nodes[i]["CPU"] for i in own if nodes[i].get("CPU")]
        largest = max(b.cpus for b in bundles if b.role == role)
        rivals = sum(b.cpus for b in bundles if homes[b.role] & own)
        # Room for the program that drives the run and for Ray's own tasks.
        shares.append(0.95 * sum(cpus) / (rivals + max(0, len(cpus) - 1) * largest))
    return min(shares)


def _check_gpus(
    bundles: Sequence[Bundle],
    homes: Mapping[str, frozenset[int]],
    nodes: Sequence[Mapping[str, float]],
) -> None:
    free = [node.get("GPU", 0.0) for node in nodes]
    for bundle in sorted(bundles, key=lambda b: -b.gpus):
        if not bundle.gpus:
            continue
        best = max(homes[bundle.role], key=lambda i: free[i], default=None)
        if best is None or free[best] < bundle.gpus:
            asked = sum(b.gpus for b in bundles)
            table = ", ".join(f"node {i}: {n.get('GPU', 0):g}" for i, n in enumerate(nodes))
            raise PlacementError(
                f"the cluster must hold all actors at once: {asked:g} GPUs asked for "
                f"(learner, rollout), available: {table or 'no node'}; {bundle.role}/"
                f"{bundle.number} with {bundle.gpus:g} GPUs found no node. Lower "
                "rollout.actors, rollout.gpus or learner.ranks, or add nodes"
            )
        free[best] -= bundle.gpus


def cluster_nodes() -> list[dict[str, float]]:
    """Resources of the live nodes."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def nodes_to_plan_for() -> list[dict[str, float]]:
    """Resources of the cluster behind RAY_ADDRESS, else of this machine; starts nothing."""
    if os.environ.get("RAY_ADDRESS"):
        connect()
        return cluster_nodes()
    import torch

    return [{"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}]


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
    lines += [f"{b.role}/{b.number}: {b.cpus:g} CPU, {b.gpus:g} GPU" for b in bundles_of(config)]
    return "\n".join(lines)


def fit_line(config: StageConfig, nodes: Sequence[Mapping[str, float]]) -> str:
    """How the configuration fits: the last line of what `t2g plan` prints.

    Raises PlacementError where it does not.
    """
    asked = bundles_of(config)
    placed = place(asked, nodes)
    share = placed[0].cpus / asked[0].cpus
    shared = "" if share == 1 else f", each with {share:.0%} of the CPUs it asks for"
    return f"{len(asked)} actors fit on {len(nodes)} nodes{shared}"
