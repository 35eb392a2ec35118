"""What a study of worlds compares, in worlds of a few actors."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import median

import pytest

from benchmarks.scale.virtual.costs import EngineCosts, Lengths, World
from benchmarks.scale.virtual.study import FAULTS, Plan, mean_length, run

PLAN = Plan(
    actors=(2, 4),
    staleness=(0, 2),
    world=World(
        actors=1,
        train_s_per_token=0.0,
        lengths=Lengths(median=100.0, sigma=1.0, limit=2000),
        engine=EngineCosts(pass_s=0.01, sequence_s=0.001),
    ),
    steps=20,
    prompts_per_actor=2,
    group_size=4,
    train_s=5.0,
    turns_train_s=2.5,
)


def test_a_study_has_rows_of_every_size_staleness_and_fault() -> None:
    rows = {row.metric: row.median for row in run(PLAN, runs=2)}
    assert rows["gain_over_sync/4/async_0"] == rows["efficiency/2/async_2"] == 1.0
    # Engines and learner work at once, and nobody waits for the longest answer of a step.
    assert rows["gain_over_sync/4/async_2"] > 1.3
    assert rows["gain_over_turns/4/async_2"] > 1.0
    assert rows["learner_busy_share/4/async_2"] > rows["learner_busy_share/4/async_0"]
    assert 0.7 < rows["efficiency/4/async_2"] < 1.3
    assert {f"speed_over_sound/{name}" for name in FAULTS} <= rows.keys()
    assert rows["speed_over_sound/half_left_and_joined"] <= 1.02


def test_sizes_and_staleness_are_compared_alike_in_whatever_order_they_are_asked_for() -> None:
    def rows(plan: Plan) -> dict[str, float]:
        found = {row.metric: row.median for row in run(plan, runs=1)}
        return {name: one for name, one in found.items() if not name.startswith("loop_ms")}

    assert rows(replace(PLAN, actors=(4, 2), staleness=(2,))) == rows(PLAN)


def test_lengths_are_log_normal_up_to_their_limit() -> None:
    lengths = Lengths(median=100.0, sigma=1.0, limit=100_000)
    drawn = sorted(next(lengths.draw(Random(seed), 1)) for seed in range(4000))
    assert median(drawn) == pytest.approx(100, rel=0.1)
    # Ten medians, as exp(2.33) says.
    assert drawn[int(0.99 * len(drawn))] == pytest.approx(1030, rel=0.25)
    # exp(1 / 2) medians.
    assert mean_length(lengths) == pytest.approx(165, rel=0.05)
    assert max(Lengths(median=100.0, limit=120).draw(Random(0), 500)) == 120


def test_completions_of_one_prompt_are_alike_as_far_as_they_share_their_spread() -> None:
    same = list(Lengths(shared=1.0).draw(Random(1), 8))
    assert len(set(same)) == 1
    assert len(set(Lengths(shared=0.0).draw(Random(1), 8))) > 1
