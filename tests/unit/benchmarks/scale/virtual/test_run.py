"""Runs in worlds that are small enough to compute by hand, and what their faults cost.

A world has `costs` and `engines`, its `stages` move the clock, and `records` are what they note
and tell.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale.virtual.costs import DriverCosts, EngineCosts, Faults, Lengths, World
from benchmarks.scale.virtual.run import Outcome, settings, simulate

FREE = DriverCosts(group_s=0.0, call_s=0.0, sync_s=0.0, spans_s=0.0, loop_s=0.0)
# 4 actors with one prompt of 2 completions each; a pass takes a tenth of a second.
WORLD = World(
    actors=4,
    train_s_per_token=0.0,
    step_s=10.0,
    lengths=Lengths(median=100.0, sigma=0.0, limit=1000),
    engine=EngineCosts(pass_s=0.1, sequence_s=0.0, load_s=0.0, transfer_s=0.0),
    driver=FREE,
    gather_s_per_actor=0.0,
)


def run(world: World, max_staleness: int = 0, steps: int = 12) -> Outcome:
    config = settings(steps=steps, max_staleness=max_staleness, prompts_per_step=4, group_size=2)
    return simulate(config, world)


def test_a_synchronous_step_writes_and_then_trains() -> None:
    found = run(WORLD)
    # 100 passes of 0.1 s, 10 s of the learner, and the 0.02 s in which the driver gathers.
    assert found.step_s == pytest.approx(20.0, abs=0.1)
    assert found.learner_busy == pytest.approx(0.5, abs=0.01)
    assert found.mean_age == 0
    assert found.tokens_per_s == pytest.approx(4 * 2 * 100 / 20, rel=0.01)


def test_with_staleness_both_sides_work_at_once() -> None:
    found = run(WORLD, max_staleness=1)
    assert found.step_s == pytest.approx(10.0, abs=0.1)
    assert 0 < found.mean_age <= 1


def test_what_the_driver_does_is_waited_for() -> None:
    costs = DriverCosts(group_s=0.5, call_s=0.25, sync_s=0.25, spans_s=0.25, loop_s=0.25)
    found = run(replace(WORLD, driver=costs))
    # 1 s to tell of the version, 1 s until the last actor has its call, 10 s of writing, 1.25 s
    # until all groups are taken on, 10 s of the learner. The rest is done while they write.
    assert found.step_s == pytest.approx(23.25, abs=0.15)


def test_a_long_answer_is_waited_for_no_longer_than_its_bound_asks() -> None:
    tail = replace(WORLD, lengths=Lengths(median=100.0, sigma=1.0, limit=1000))
    sync, one, two = (run(tail, max_staleness=s, steps=60) for s in (0, 1, 2))
    # Of 8 answers the longest has some 400 tokens: 40 s, in which an asynchronous learner trains.
    assert sync.step_s > 1.5 * one.step_s
    assert two.step_s <= one.step_s
    assert max(step.mean_age for step in two.steps) <= 2


def test_slow_engines_and_pauses_cost_time() -> None:
    slow = run(replace(WORLD, faults=Faults(slow_share=1.0, slow_factor=2.0)))
    assert slow.step_s == pytest.approx(30.0, abs=0.1)
    paused = run(replace(WORLD, faults=Faults(hiccup_every_s=50.0, hiccup_s=5.0)), steps=40)
    assert 20.5 < paused.step_s < 35


def test_a_death_costs_the_steps_since_the_last_checkpoint_and_the_restart() -> None:
    faults = Faults(mtbf_s=4 * 600.0, restart_s=100.0)
    found = run(replace(WORLD, faults=faults), steps=100)
    sound = run(WORLD, steps=100)
    assert found.num_deaths >= 1
    lost_s = found.num_deaths * 100.0 + found.lost_steps * 20.0
    extra_s = found.wall_s - sound.wall_s
    # The step in which an actor died is lost besides, and the first has begun before it counts.
    assert lost_s - 40 <= extra_s <= lost_s + 30 * found.num_deaths + 40
    assert len(found.steps) == len(sound.steps)


def test_a_simulation_repeats_itself() -> None:
    world = replace(WORLD, lengths=Lengths(), faults=Faults(hiccup_every_s=50.0, hiccup_s=5.0))
    assert run(world).steps == run(world).steps
    assert run(world).steps != run(replace(world, seed=1)).steps


def test_a_run_too_short_to_count_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 9 steps or more, found 8"):
        run(WORLD, max_staleness=2, steps=8)
