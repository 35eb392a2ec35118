"""Configuration and cluster -> what each actor reserves, checked before anything starts.

GPUs are reserved as asked. CPUs are shared where a machine has fewer than asked for: with
max_staleness 0 samplers and learner take turns anyway, and a laptop must be able to run at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from t2g_ray.config import GrpoConfig, StageConfig


class PlacementError(ValueError):
    """The cluster cannot hold what the configuration asks for."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one actor reserves. `role` is learner, rollout or reward."""

    role: str
    number: int
    cpus: float
    gpus: float

    @property
    def options(self) -> dict[str, Any]:
        """Ray options of the actor; rollouts are spread so that nodes share the load."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "scheduling_strategy": "DEFAULT" if self.role == "learner" else "SPREAD",
        }


def connect() -> None:
    """Join the cluster this process was submitted to, or start one on this machine."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    ray.init(
        # "local": Ray would otherwise look for a cluster once started on this machine, dead or not.
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=bool(os.environ.get("T2G_ACTOR_LOGS")),
        configure_logging=True,
        logging_level=logging.ERROR,
    )


def bundles_of(config: GrpoConfig) -> list[Bundle]:
    """What the configuration asks for, before any sharing."""
    learner, rollout, reward = config.learner, config.rollout, config.reward
    return [
        *(Bundle("learner", i, learner.threads, learner.gpus) for i in range(learner.ranks)),
        *(Bundle("rollout", i, rollout.threads, rollout.gpus) for i in range(rollout.actors)),
        *(Bundle("reward", i, 1, 0) for i in range(reward.actors)),
    ]


def place(bundles: Sequence[Bundle], nodes: Iterable[Mapping[str, float]]) -> list[Bundle]:
    """Bundles as they will be reserved on nodes of {"CPU": c, "GPU": g}.

    Raises PlacementError with requested against available when the GPUs do not fit.
    """
    capacity = [dict(node) for node in nodes]
    _check_gpus(bundles, capacity)
    asked = sum(bundle.cpus for bundle in bundles)
    available = sum(node.get("CPU", 0.0) for node in capacity)
    # Room for the program that drives the run and for Ray's own tasks.
    share = min(1.0, 0.95 * available / asked)
    if share == 1.0:
        return list(bundles)
    # Rounded down to what Ray counts in; a reservation is a share of time here, not a core.
    return [
        Bundle(b.role, b.number, max(0.001, int(b.cpus * share * 1000) / 1000), b.gpus)
        for b in bundles
    ]


def _check_gpus(bundles: Sequence[Bundle], capacity: Sequence[Mapping[str, float]]) -> None:
    free = sorted((node.get("GPU", 0.0) for node in capacity), reverse=True)
    for bundle in sorted(bundles, key=lambda b: -b.gpus):
        if not bundle.gpus:
            continue
        free.sort(reverse=True)
        if not free or free[0] < bundle.gpus:
            asked = sum(b.gpus for b in bundles)
            table = ", ".join(f"node {i}: {n.get('GPU', 0):g}" for i, n in enumerate(capacity))
            raise PlacementError(
                f"the cluster must hold all actors at once: {asked:g} GPUs asked for "
                f"(learner, rollout), available: {table or 'no node'}; {bundle.role}/"
                f"{bundle.number} with {bundle.gpus:g} GPUs found no node. Lower "
                "rollout.actors, rollout.gpus or learner.ranks, or add nodes"
            )
        free[0] -= bundle.gpus


def cluster_nodes() -> list[dict[str, float]]:
    """Resources of the living nodes."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def plan_table(config: StageConfig) -> str:
    """What `t2g plan` prints: derived sizes and reservations, without starting an actor."""
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
