"""What the learner's ranks take, by component."""

from __future__ import annotations

from dataclasses import replace

import pytest

from t2g_ray.planning.speed.learner import LearnerRanks
from tests.unit.planning.parts import H100, QWEN_7B, grpo, part, plan


def test_a_learner_computes_six_operations_a_parameter_and_token_and_two_more_again() -> None:
    speed = plan(learner={"gradient_checkpointing": True})
    assert part(speed, "backward") == pytest.approx(2 * part(speed, "forward"))
    assert part(speed, "recomputation") == pytest.approx(part(speed, "forward"))
    without = plan(learner={"gradient_checkpointing": False})
    assert part(without, "recomputation") == 0
    adapters = plan(learner={"lora": {"rank": 8}})
    assert part(adapters, "backward") == pytest.approx(part(adapters, "forward"))


def test_weights_that_are_gathered_for_each_pass_cost_more_than_gradients_alone() -> None:
    seconds = [
        part(plan(learner={"ranks": 4, "zero_stage": stage}), "collectives") for stage in (1, 3)
    ]
    assert 0 < seconds[0] < seconds[1]
    far = plan(replace(H100, ranks_of_node=2), learner={"ranks": 4, "zero_stage": 3})
    assert part(far, "collectives") > 10 * seconds[1]


def test_an_optimiser_on_the_host_takes_longer() -> None:
    device, host = (
        part(plan(learner={"ranks": 2, "zero_stage": 1, "offload": where}), "optimiser")
        for where in ("none", "optimizer")
    )
    assert host > 10 * device


def test_ranks_of_one_node_have_no_slower_link_than_their_cards() -> None:
    def across(ranks: int) -> float:
        settings = grpo(learner={"ranks": ranks}).learner
        return LearnerRanks(settings=settings, shape=QWEN_7B, ranks_of_node=4, network=50).across

    assert across(4) == float("inf") and across(5) == 50
