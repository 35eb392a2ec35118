"""Numbers of actors -> started ones: a process for each, or a few that all of them share."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from actors.cluster.handles import Handle, call_all, get_all, start_alone
from actors.workers.reward import RewardActor
from actors.workers.rollout import RolloutActor
from benchmarks.scale.simulated import Addressed, Host, SimulatedReward, SimulatedRollout
from t2g_ray.config import GrpoConfig
from t2g_ray.rollout.spec import EngineSpec, rollout_spec
from t2g_ray.weights.manifest import MIB

ROLLOUTS_PER_REWARD = 16
REWARDS_BESIDE_HOSTS = 4
MIB_PER_PROCESS = 190
"""Memory that no two of the processes share, most of it PyTorch's; measured on Linux."""
MIB_PER_ACTOR = 2
"""What one more actor takes in a process that holds many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many actors; `hosts` processes hold the rollout actors, 0: one for each."""

    rollouts: int
    hosts: int
    group_s: float
    streams: int
    """Calls of `generate` that an actor has at one time."""

    @property
    def rewards(self) -> int:
        """Reward actors, of which each has a process; a fleet that shares its own has few."""
        wanted = max(1, self.rollouts // ROLLOUTS_PER_REWARD)
        return min(wanted, REWARDS_BESIDE_HOSTS) if self.hosts else wanted

    def check(self) -> None:
        """Raises ValueError where the machine's free memory cannot hold the processes."""
        needed = MIB_PER_PROCESS * ((self.hosts or self.rollouts) + self.rewards)
        needed += MIB_PER_ACTOR * self.rollouts if self.hosts else 0
        available = psutil.virtual_memory().available // MIB
        if needed > available:
            raise ValueError(
                f"{self.rollouts} simulated actors must fit into memory ({needed} MiB), found "
                f"{available} MiB available; give smaller --sizes, or --hosts 16"
            )


@dataclass(frozen=True, slots=True)
class Actors:
    """Started actors, and the processes that end with them."""

    rollouts: list[Handle[RolloutActor]]
    rewards: list[Handle[RewardActor]]
    tally: Counter[str]
    """Calls that the driver made, by method."""
    processes: list[Handle[Any]] = field(default_factory=list)

    def close(self) -> None:
        """End them all."""
        for process in self.processes:
            process.kill()


def start(config: GrpoConfig, size: Size) -> Actors:
    """All actors, started. They reserve nothing: a sleeping engine needs no core."""
    actors = Actors([], [], Counter())
    for number in range(size.rewards):
        name = f"reward/{number}"
        # It has what RewardActor is asked for here, and none of its concurrency groups.
        process = start_alone(SimulatedReward, name=name)
        actors.processes.append(process)
        actors.rewards.append(Addressed(name, process.actor, tally=actors.tally))
    spec = rollout_spec(config, "simulated")
    num_processes = size.hosts or size.rollouts
    # A few at a time: processes that all start at once keep each other from starting.
    wave = 2 * (os.cpu_count() or 1)
    for first in range(0, num_processes, wave):
        started: list[Handle[RolloutActor]] = []
        for number in range(first, min(first + wave, num_processes)):
            started += _start_process(actors, spec, size, number)
        get_all(call_all(started, RolloutActor.drain_spans))
        actors.rollouts.extend(started)
    for process in actors.processes:
        process.wait_until_ready()
    actors.rollouts.sort(key=lambda handle: int(handle.name.partition("/")[2]))
    actors.tally.clear()
    return actors


def _start_process(
    actors: Actors, spec: EngineSpec, size: Size, number: int
) -> list[Handle[RolloutActor]]:
    name = f"rollout/{number}"
    if not size.hosts:
        own = replace(spec, sampler=number), size.group_s
        alone = start_alone(SimulatedRollout, *own, name=name, max_concurrency=16)
        actors.processes.append(alone)
        return [Addressed(name, alone.actor, tally=actors.tally)]
    numbers = range(number, size.rollouts, size.hosts)
    threads = len(numbers) * (size.streams + 1)
    held = spec, numbers, size.group_s
    host = start_alone(Host, *held, name=name, max_concurrency=threads)
    actors.processes.append(host)
    return [Addressed(f"rollout/{n}", host.actor, before=(n,), tally=actors.tally) for n in numbers]
