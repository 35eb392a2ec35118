"""Sync, evaluations and checkpoints of a step."""

from __future__ import annotations

import pytest

from benchmarks.limits import Bounds, read_cases
from t2g_ray.planning.cards import CARDS
from t2g_ray.planning.shares import STORE
from t2g_ray.planning.speed.beside import DRIVER_GROUP_S, SCORED_PER_S, sync_part
from tests.unit.planning.parts import QWEN_7B, grpo, part, plan


def test_what_benchmarks_demand_is_what_plans_count_with() -> None:
    cases = read_cases()

    def goal(case: str, metric: str) -> Bounds | None:
        return next(limit.goal for limit in cases[case].limits if limit.metric == metric)

    assert goal("rewards", "completions_per_s_per_core") == (SCORED_PER_S, None)
    assert goal("scale", "driver_ms_per_group") == (None, 1000 * DRIVER_GROUP_S)
    assert goal("sync", "gb_per_s") == (STORE, None)


@pytest.mark.parametrize("transport", ["store", "broadcast"])
def test_weights_take_longer_than_on_one_device(transport: str) -> None:
    near = plan(
        colocate="share",
        rollout={"gpus": 0.5},
        learner={"gpus": 0.5},
        sync={"transport": "ipc"},
    )
    assert part(plan(sync={"transport": transport}), "sync") > 2 * part(near, "sync")


def test_evaluations_and_checkpoints_are_shared_over_the_steps_between() -> None:
    often = plan(eval={"every": 10}, checkpoint={"every": 10})
    seldom = plan(eval={"every": 20}, checkpoint={"every": 20})
    for name in ("evaluation", "checkpoint"):
        assert part(often, name) == pytest.approx(2 * part(seldom, name)) != 0
        assert part(plan(), name) == 0


def test_weights_that_stay_on_a_node_pass_no_network() -> None:
    config = grpo(sync={"transport": "broadcast"})
    near, far = (
        sync_part(config, QWEN_7B, CARDS["H100"], scale=1.0, network=network).seconds
        for network in (None, 12.5)
    )
    assert near < far / 10


def test_adapters_alone_are_sent_in_a_hundredth_of_the_time() -> None:
    whole, adapters = (
        sync_part(
            grpo(learner={"lora": lora}), QWEN_7B, CARDS["H100"], scale=1.0, network=None
        ).seconds
        for lora in ({"rank": 8}, {"rank": 8, "sync": "adapter"})
    )
    assert adapters < whole / 100
