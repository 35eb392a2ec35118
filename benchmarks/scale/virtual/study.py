"""Worlds of growing size -> rows: what staleness gains there, how size costs, what faults cost.

A world of n rollout actors has a learner that grows with them, so that one step of each is as long;
its baseline, as peers have one, is a synchronous run in turns on the devices of both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean

from benchmarks.result import ResultRow, make_row
from benchmarks.scale.virtual.costs import Faults, Lengths, World
from benchmarks.scale.virtual.run import Outcome, settings, simulate

HOUR_S = 3600.0
FAULTS = {
    "slow": Faults(slow_share=0.05, slow_factor=2.0),
    "hiccups": Faults(hiccup_every_s=1800.0, hiccup_s=30.0),
    "deaths": Faults(mtbf_s=500 * HOUR_S, restart_s=600.0),
}
"""A twentieth of the engines at half the speed; half a minute without a token twice an hour; deaths
a hundred times as often as accelerators failed in a published run of 54 days on 16,384 of them,
since one of an hour would have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is simulated."""

    actors: Sequence[int]
    staleness: Sequence[int]
    world: World
    """Of one size; its number of actors and its learner's speed are put in."""
    steps: int
    prompts_per_actor: int
    group_size: int
    train_s: float
    """Seconds of a learner as large as the rollout side for the groups of a step."""
    turns_train_s: float
    """Seconds of one that is twice as large."""


def run(plan: Plan, *, runs: int) -> list[ResultRow]:
    """Rows of every size and staleness, the synchronous run among them, and of every fault at the
    largest of both."""
    sizes = sorted(set(plan.actors))
    rows: list[ResultRow] = []
    smallest: dict[int, list[Outcome]] = {}
    for actors in sizes:
        turns = _outcomes(plan, runs, actors, 0, is_in_turns=True)
        rows.append(_row(f"sim_s_per_step/{actors}/in_turns", turns, lambda one: one.step_s, "s"))
        by_staleness = {s: _outcomes(plan, runs, actors, s) for s in sorted({0, *plan.staleness})}
        smallest = smallest or by_staleness
        for staleness, found in by_staleness.items():
            name = f"{actors}/async_{staleness}"
            rows += _rows_of(name, found)
            rows.append(_over(f"gain_over_sync/{name}", by_staleness[0], found))
            rows.append(_over(f"gain_over_turns/{name}", turns, found))
            growth = actors / sizes[0]
            pairs = zip(smallest[staleness], found, strict=True)
            shares = [b.tokens_per_s / a.tokens_per_s / growth for a, b in pairs]
            rows.append(make_row(f"efficiency/{name}", shares, "share"))
    return [*rows, *_rows_of_faults(plan, runs, by_staleness[max(plan.staleness)])]


def _rows_of_faults(plan: Plan, runs: int, sound: Sequence[Outcome]) -> list[ResultRow]:
    actors, staleness = max(plan.actors), max(plan.staleness)
    rows: list[ResultRow] = []
    for name, faults in FAULTS.items():
        found = _outcomes(plan, runs, actors, staleness, faults=faults)
        rows.append(_over(f"speed_over_sound/{name}", sound, found))
        if faults.mtbf_s:
            rows.append(_row(f"deaths/{name}", found, lambda one: one.num_deaths, "count"))
            rows.append(_row(f"lost_steps/{name}", found, lambda one: one.lost_steps, "count"))
    found = _outcomes(plan, runs, actors, staleness, wanted=_half_in_the_middle(plan, actors))
    rows.append(_over("speed_over_sound/half_left_and_joined", sound, found))
    return rows


def _half_in_the_middle(plan: Plan, actors: int) -> Callable[[int], int]:
    """Half of the actors leave after a third of the steps, and join again after two thirds."""
    return lambda step: actors // 2 if plan.steps <= 3 * step < 2 * plan.steps else actors


def _outcomes(
    plan: Plan,
    runs: int,
    actors: int,
    staleness: int,
    *,
    is_in_turns: bool = False,
    faults: Faults | None = None,
    wanted: Callable[[int], int] | None = None,
) -> list[Outcome]:
    prompts = plan.prompts_per_actor * actors
    config = settings(
        steps=plan.steps,
        max_staleness=staleness,
        prompts_per_step=prompts,
        group_size=plan.group_size,
    )
    # In turns the learner's devices write too, and those of the samplers train.
    share = 2 if is_in_turns else 1
    tokens = prompts * plan.group_size * mean_length(plan.world.lengths)
    world = replace(
        plan.world,
        actors=share * actors,
        train_s_per_token=(plan.turns_train_s if is_in_turns else plan.train_s) / tokens,
        faults=faults or plan.world.faults,
    )
    return [simulate(config, replace(world, seed=seed), wanted=wanted) for seed in range(runs)]


def mean_length(lengths: Lengths) -> float:
    """Mean number of tokens, of many drawn."""
    chance = Random(0)
    return fmean(length for _ in range(20_000) for length in lengths.draw(chance, 1))


def _rows_of(name: str, found: Sequence[Outcome]) -> list[ResultRow]:
    return [
        _row(f"sim_s_per_step/{name}", found, lambda one: one.step_s, "s"),
        _row(f"tokens_per_s/{name}", found, lambda one: one.tokens_per_s, "tokens/s"),
        _row(f"learner_busy_share/{name}", found, lambda one: one.learner_busy, "share"),
        _row(f"mean_age/{name}", found, lambda one: one.mean_age, "versions"),
        _row(f"loop_ms_per_group/{name}", found, lambda one: 1000 * one.loop_s, "ms"),
    ]


def _row(
    metric: str, found: Sequence[Outcome], value: Callable[[Outcome], float], unit: str
) -> ResultRow:
    return make_row(metric, [value(one) for one in found], unit)


def _over(metric: str, base: Sequence[Outcome], found: Sequence[Outcome]) -> ResultRow:
    """How many times the tokens of `base` are trained in the same time, run by run."""
    pairs = zip(base, found, strict=True)
    return make_row(metric, [b.tokens_per_s / a.tokens_per_s for a, b in pairs], "ratio")
