"""1 to 64 rollout actors of known speed: how much of it arrives, and what a group costs the driver.

The engines are simulated: they finish one group after a fixed time by sleeping, so that many of
them fit on a machine. Everything else is the product's: the sampler threads, the streams, the
hand-over to reward actors, and `RayGroups` in the driver.

With one step queued, as in a synchronous run, every actor waits from its last group until the
driver has taken the whole step and begun the next: `efficiency` shows what that costs. With more,
the actors have work meanwhile, and only a driver that is slower than all of them shows.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import psutil

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, call_all, get_all, start_alone
from actors.cluster.placement import connect
from actors.stages.groups import RayGroups
from actors.workers.reward import GoldRecords, RewardActor
from actors.workers.rollout import RolloutActor
from benchmarks.inputs.workload import completion_of
from benchmarks.result import ResultRow, check_count, make_row
from t2g_ray.config import GrpoConfig
from t2g_ray.config.rewards import preset
from t2g_ray.graph import Graph
from t2g_ray.rewards.group import summarise
from t2g_ray.rollout.sampler import SamplerThread
from t2g_ray.rollout.spec import EngineSpec, Sampling, rollout_spec
from t2g_ray.types import Group, GroupSummary, Prompt, Record, Reward, ScoredGroup
from t2g_ray.weights.manifest import MIB

SIZES = (1, 4, 16, 64)
NUM_TOKENS = 100
"""Tokens of a simulated completion."""
ROLLOUTS_PER_REWARD = 16
MIB_PER_ACTOR = 190
"""Memory that no two of the actors share, most of it PyTorch's; measured on Linux."""


class SleepingEngine:
    """What SamplerThread needs of an engine: one group every `group_s` seconds, no work."""

    def __init__(self, number: int, group_s: float) -> None:
        self.version, self.num_generated_tokens, self.num_passes = 0, 0, 0
        self._number, self._group_s = number, group_s
        self._open: deque[tuple[Prompt, Sampling]] = deque()
        self._ready_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether any group is unfinished."""
        return bool(self._open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        """Queue a group; an idle engine starts on it now."""
        if not self._open:
            self._ready_s = time.perf_counter() + self._group_s
        self._open.append((prompt, sampling))

    def abort(self, keys: Iterable[str]) -> dict[str, list[int]]:
        """Forget these groups; none has a token before it is whole."""
        wanted = frozenset(keys)
        aborted = [prompt.key for prompt, _ in self._open if prompt.key in wanted]
        self._open = deque(one for one in self._open if one[0].key not in wanted)
        return {key: [] for key in aborted}

    def step(self) -> list[Group]:
        """Sleep until the first group is due; groups are due at a fixed pace, late or not."""
        time.sleep(max(0.0, self._ready_s - time.perf_counter()))
        self._ready_s += self._group_s
        prompt, sampling = self._open.popleft()
        completion = completion_of(range(NUM_TOKENS))
        self.num_generated_tokens += sampling.group_size * NUM_TOKENS
        self.num_passes = self.num_generated_tokens
        return [
            Group(
                prompt=prompt,
                completions=(completion,) * sampling.group_size,
                sampler=self._number,
                generate_s=self._group_s,
            )
        ]

    def close(self) -> None:
        """Nothing is held."""


class SimulatedRollout(RolloutActor):
    """A rollout actor around a SleepingEngine."""

    def __init__(self, spec: EngineSpec, group_s: float) -> None:
        self._sampler = SamplerThread(
            spec, start=lambda spec: SleepingEngine(spec.sampler, group_s)
        )


class SimulatedReward:
    """A reward actor that gives every completion the same reward at once."""

    def score(
        self, gold: GoldRecords, *groups: Group
    ) -> tuple[list[GroupSummary] | ScoredGroup, ...]:
        """As RewardActor.score."""
        reward = Reward(
            total=1.0,
            parts={},
            tag="score",
            parse="ok",
            entities=(1, 0, 0),
            relations=(1, 0, 0),
            near=(0.0, 0.0),
        )
        scored = []
        for group in groups:
            size = len(group.completions)
            scored.append(ScoredGroup(group=group, rewards=(reward,) * size, texts=("",) * size))
        return [summarise(one, preset("f1"), score_s=0.0) for one in scored], *scored


def run(
    config: GrpoConfig,
    *,
    runs: int,
    sizes: Sequence[int] = SIZES,
    group_s: float = 0.5,
    prompts_per_actor: int = 4,
    rounds: int = 5,
    queued: int = 1,
) -> list[ResultRow]:
    """Rows of each size; a run has `rounds` steps of `prompts_per_actor` prompts an actor.

    Raises ValueError where the machine's free memory cannot hold so many processes.
    """
    _check_memory(max(sizes))
    connect()
    rollouts, rewards = _start(config, max(sizes), group_s)
    try:
        figures = {
            size: _measure(
                RayGroups(
                    config, fleet=Fleet(rollouts[:size]), rewards=rewards, prompts=_Prompts()
                ),
                _Rounds(runs=runs, rounds=rounds, queued=queued, count=prompts_per_actor * size),
            )
            for size in sizes
        }
    finally:
        for rollout in rollouts:
            rollout.kill()
        for reward in rewards:
            reward.kill()
    rows: list[ResultRow] = []
    for size, (rates, costs_ms) in figures.items():
        ideal = size / group_s
        rows += [
            make_row(f"groups_per_s/{size}", rates, "groups/s"),
            make_row(f"efficiency_{size}", [rate / ideal for rate in rates], "share"),
            make_row(f"driver_ms_per_group/{size}", costs_ms, "ms"),
        ]
    return [*rows, make_row("driver_ms_per_group", figures[max(sizes)][1], "ms")]


def _check_memory(count: int) -> None:
    available = psutil.virtual_memory().available // MIB
    needed = MIB_PER_ACTOR * (count + max(1, count // ROLLOUTS_PER_REWARD))
    if needed > available:
        raise ValueError(
            f"{count} simulated actors must fit into memory ({needed} MiB), found {available} MiB "
            "available; give smaller --sizes"
        )


def _start(
    config: GrpoConfig, count: int, group_s: float
) -> tuple[list[Handle[RolloutActor]], list[Handle[RewardActor]]]:
    """All actors, started. They reserve nothing: a sleeping engine needs no core."""
    spec = rollout_spec(config, "simulated")
    rewards: list[Handle[RewardActor]] = []
    for number in range(max(1, count // ROLLOUTS_PER_REWARD)):
        name = f"reward/{number}"
        # It has what RewardActor is asked for here, and none of its concurrency groups.
        rewards.append(Handle(name, start_alone(SimulatedReward, name=name).actor))
    rollouts: list[Handle[RolloutActor]] = []
    # A few at a time: processes that all start at once keep each other from starting.
    wave = 2 * (os.cpu_count() or 1)
    for first in range(0, count, wave):
        for number in range(first, min(first + wave, count)):
            arguments = replace(spec, sampler=number), group_s
            name = f"rollout/{number}"
            rollouts.append(
                start_alone(SimulatedRollout, *arguments, name=name, max_concurrency=16)
            )
        get_all(call_all(rollouts[first:], RolloutActor.drain_spans))
    for handle in rewards:
        handle.wait_until_ready()
    return rollouts, rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rounds:
    """A run has `rounds` steps of `count` groups; the actors hold those of `queued` steps."""

    runs: int
    rounds: int
    queued: int
    count: int


def _measure(groups: RayGroups, plan: _Rounds) -> tuple[list[float], list[float]]:
    """(groups a second, milliseconds of the driver's CPU a group) of each run."""
    position = 0

    def begin(num_groups: int) -> None:
        nonlocal position
        groups.start(range(position, position + num_groups), min_version=-1)
        position += num_groups

    begin(plan.queued * plan.count)
    rates, costs_ms = [], []
    for number in range(plan.runs + 1):
        started_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(plan.rounds if number else 1):
            taken = groups.take(plan.count, dues=(), should_stop=lambda: False)
            check_count("groups", len(taken), plan.count)
            begin(plan.count)
        if number:  # the first round fills the pipeline
            num_groups = plan.rounds * plan.count
            rates.append(num_groups / (time.perf_counter() - started_s))
            costs_ms.append(1000 * (time.process_time() - cpu_s) / num_groups)
    groups.take(plan.queued * plan.count, dues=(), should_stop=lambda: False)
    return rates, costs_ms


class _Prompts:
    """Implements `grpo.stages.Prompts`: all alike."""

    def prompt(self, position: int) -> Prompt:
        return Prompt(index=position, token_ids=tuple(range(NUM_TOKENS)))

    def record(self, position: int) -> Record:
        return Record(text="", entity_types=(), relation_types=(), graph=Graph((), ()))
