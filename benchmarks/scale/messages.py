"""1 to 1,024 rollout actors of known speed: how much of it arrives, and what it costs the driver.

The engines are simulated: they finish one group after a fixed time by sleeping, so that many of
them fit on a machine. Everything else is the product's: the sampler threads, the streams, the
hand-over to reward actors, and `RayGroups` in the driver.

With one step queued, as in a synchronous run, every actor waits from its last group until the
driver has taken the whole step and begun the next: `efficiency` shows what that costs. With more,
the actors have work meanwhile, and only a driver that is slower than all of them shows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from actors.cluster.fleet import Fleet
from actors.cluster.placement import connect
from actors.stages.groups import RayGroups
from benchmarks.result import ResultRow, check_count, make_row
from benchmarks.scale.fleet import Actors, Size, start
from benchmarks.scale.simulated import NUM_TOKENS
from benchmarks.scale.upkeep import Upkeep, measure_upkeep
from t2g_ray.config import GrpoConfig
from t2g_ray.graph import Graph
from t2g_ray.types import Prompt, Record
from t2g_ray.weights.manifest import MIB

SIZES = (1, 4, 16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """A run has `rounds` steps of `count` groups; the actors hold those of `queued` steps."""

    runs: int
    rounds: int
    queued: int
    count: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A value of each run."""

    rates: list[float] = field(default_factory=list)
    """Groups a second."""
    costs_ms: list[float] = field(default_factory=list)
    """The driver's CPU a group."""
    growth_mib: list[float] = field(default_factory=list)
    """What the driver's resident memory grew by during the run."""


def run(
    config: GrpoConfig,
    *,
    runs: int,
    sizes: Sequence[int] = SIZES,
    hosts: int = 0,
    group_s: float = 0.5,
    prompts_per_actor: int = 4,
    rounds: int = 5,
    queued: int = 1,
) -> list[ResultRow]:
    """Rows of each size; a run has `rounds` steps of `prompts_per_actor` prompts an actor.

    `hosts`: processes that hold the actors, 0 for one each. Raises ValueError where the machine's
    free memory cannot hold so many processes.
    """
    size = Size(rollouts=max(sizes), hosts=hosts, group_s=group_s, streams=queued + 1)
    size.check()
    connect()
    actors = start(config, size)
    rows: list[ResultRow] = []
    try:
        for number in sizes:
            counts = Rounds(
                runs=runs, rounds=rounds, queued=queued, count=prompts_per_actor * number
            )
            rows += _rows_of(config, actors, number, counts, ideal=number / group_s)
    finally:
        actors.close()
    costs_ms = next(row.values for row in rows if row.metric == f"driver_ms_per_group/{max(sizes)}")
    return [*rows, make_row("driver_ms_per_group", costs_ms, "ms")]


def _rows_of(
    config: GrpoConfig, actors: Actors, size: int, plan: Rounds, *, ideal: float
) -> list[ResultRow]:
    fleet = Fleet(actors.rollouts[:size])
    groups = RayGroups(config, fleet=fleet, rewards=actors.rewards, prompts=_Prompts())
    actors.tally.clear()
    found = measure(groups, plan)
    num_groups = plan.count * (plan.queued + 1 + plan.runs * plan.rounds)
    calls = [actors.tally.total() / num_groups] * plan.runs
    upkeep: Upkeep = measure_upkeep(list(fleet), runs=plan.runs)
    rows = [
        make_row(f"groups_per_s/{size}", found.rates, "groups/s"),
        make_row(f"efficiency_{size}", [rate / ideal for rate in found.rates], "share"),
        make_row(f"driver_ms_per_group/{size}", found.costs_ms, "ms"),
        make_row(f"driver_growth_mib/{size}", found.growth_mib, "MiB"),
        make_row(f"calls_per_group/{size}", calls, "calls"),
        make_row(f"spans_ms_per_actor/{size}", upkeep.spans_ms, "ms"),
        make_row(f"sync_ms_per_actor/{size}", upkeep.sync_ms, "ms"),
    ]
    return rows


def measure(groups: RayGroups, plan: Rounds) -> Figures:
    """Figures of each run; what fills the actors before the first does not count."""
    position = 0

    def begin(num_groups: int) -> None:
        nonlocal position
        groups.start(range(position, position + num_groups), min_version=-1)
        position += num_groups

    begin(plan.queued * plan.count)
    found = Figures()
    for number in range(plan.runs + 1):
        started_s, cpu_s, rss_mib = time.perf_counter(), time.process_time(), _rss_mib()
        for _ in range(plan.rounds if number else 1):
            taken = groups.take(plan.count, dues=(), should_stop=lambda: False)
            check_count("groups", len(taken), plan.count)
            begin(plan.count)
        if number:  # the first round fills the pipeline
            num_groups = plan.rounds * plan.count
            found.rates.append(num_groups / (time.perf_counter() - started_s))
            found.costs_ms.append(1000 * (time.process_time() - cpu_s) / num_groups)
            found.growth_mib.append(_rss_mib() - rss_mib)
    groups.take(plan.queued * plan.count, dues=(), should_stop=lambda: False)
    return found


def _rss_mib() -> float:
    return float(psutil.Process().memory_info().rss) / MIB


class _Prompts:
    """Implements `grpo.stages.Prompts`: all alike."""

    def prompt(self, position: int) -> Prompt:
        return Prompt(index=position, token_ids=tuple(range(NUM_TOKENS)))

    def record(self, position: int) -> Record:
        return Record(text="", entity_types=(), relation_types=(), graph=Graph((), ()))
