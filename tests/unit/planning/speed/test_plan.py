"""A whole step: what its parts come to, synchronous and asynchronous, apart and on one device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.planning.cards import CARDS
from t2g_ray.planning.parts import Speed
from t2g_ray.planning.speed.hardware import Hardware
from t2g_ray.planning.speed.plan import plan_speed
from tests.unit.planning.parts import H100, QWEN_7B, TINY, grpo, lengths, part, plan, rates, sft


def test_a_synchronous_step_is_one_side_after_the_other() -> None:
    speed = plan()
    aside = part(speed, "sync") + part(speed, "driver") + part(speed, "scoring") / 64
    assert speed.step_s == pytest.approx(speed.rollout_s + speed.learner_s + aside)
    assert speed.tokens == 512 * 800
    assert speed.generated_tokens_per_s == pytest.approx(512 * 200 / speed.step_s)


def test_an_asynchronous_step_is_the_longer_side() -> None:
    speed = plan(max_staleness=1)
    longer = max(
        speed.rollout_s + part(speed, "sync"),
        speed.learner_s + part(speed, "sync") + part(speed, "driver"),
    )
    assert speed.step_s == pytest.approx(longer)
    assert speed.step_s < plan().step_s


def test_a_shared_device_gives_no_more_to_two_sides_than_to_one() -> None:
    shares = {"rollout": {"gpus": 0.5}, "learner": {"gpus": 0.5}}
    at_once = plan(colocate="share", max_staleness=1, **shares)
    assert at_once.step_s >= at_once.rollout_s + at_once.learner_s
    in_turns = plan(colocate="time", **shares)
    assert part(in_turns, "turns") > 0 and part(at_once, "turns") == 0


def test_the_bottleneck_flips_at_the_number_of_actors_that_balances() -> None:
    balanced = plan(max_staleness=1, learner={"ranks": 8}).balanced_rollouts
    assert balanced is not None and balanced > 1
    for actors, side in ((balanced - 1, "rollout"), (balanced, "learner")):
        speed = plan(max_staleness=1, learner={"ranks": 8}, rollout={"actors": actors})
        assert speed.bottleneck == side


def test_measured_rates_are_taken_as_they_are() -> None:
    speed = plan(Hardware(source=rates()), prompts_per_step=5, learner={"ranks": 1})
    assert part(speed, "decode") == pytest.approx(4 + 8, rel=0.01)
    assert part(speed, "prefill") == pytest.approx(5 * 600 / 1e4)
    assert part(speed, "sync") == 0.25
    assert part(speed, "optimiser and collectives") == 0.5
    assert speed.rates.startswith("measured")


def test_rates_of_a_model_of_another_size_are_scaled_and_that_is_said() -> None:
    half = Hardware(source=rates(parameters=QWEN_7B.parameters / 2))
    speed = plan(half, prompts_per_step=5)
    assert part(speed, "decode") == pytest.approx(2 * (4 + 8), rel=0.01)
    assert any("measure with the model itself" in one for one in speed.assumptions)


def test_rates_without_an_engine_are_refused_where_there_is_one() -> None:
    with pytest.raises(ValueError, match="must have rates of an engine"):
        plan(Hardware(source=rates(engine=None)))


def test_sft_has_one_side() -> None:
    source = rates(engine=None, parameters=TINY.parameters)
    config = sft(eval={"every": 10}, batch_size=32, data={"heldout_records": 64})
    speed = plan_speed(config, TINY, lengths(), Hardware(source=source))
    assert (speed.rollouts, speed.balanced_rollouts, speed.bottleneck) == (0, None, "learner")
    assert speed.tokens == 32 * 800
    assert part(speed, "evaluation") == pytest.approx(part(speed, "forward") * 2 / 10)
    assert speed.step_s == pytest.approx(speed.learner_s + part(speed, "evaluation"))


def test_threads_without_cores_of_their_own_take_turns() -> None:
    apart = Hardware(source=rates(), cores=4)
    crowded = Hardware(source=rates(), cores=1)
    changes: dict[str, Any] = {
        "device": "cpu",
        "rollout": {"gpus": 0, "actors": 2},
        "learner": {"gpus": 0, "ranks": 2},
    }
    assert plan(crowded, **changes).rollout_s == pytest.approx(2 * plan(apart, **changes).rollout_s)
    looked_at = {**changes, "eval": {"every": 5}}
    slow, quick = (part(plan(one, **looked_at), "evaluation") for one in (crowded, apart))
    assert slow == pytest.approx(2 * quick)
    measured = Hardware(source=rates(learner_crowding=2.0), cores=1)
    assert plan(measured, **changes).learner_s == plan(apart, **changes).learner_s
    at_once = plan(Hardware(source=rates(), cores=2), max_staleness=1, **changes)
    assert at_once.step_s == pytest.approx(at_once.rollout_s + at_once.learner_s)


def test_on_few_cores_the_balance_is_found_where_more_actors_would_be_slower() -> None:
    def planned(actors: int) -> Speed:
        hardware = Hardware(source=rates(learner_flops_per_s=5e13), cores=4)
        changes: dict[str, Any] = {
            "device": "cpu",
            "rollout": {"gpus": 0, "actors": actors},
            "learner": {"gpus": 0, "ranks": 2},
        }
        return plan(hardware, prompts_per_step=16, **changes)

    found = planned(2)
    assert planned(16).rollout_s > found.learner_s
    assert found.balanced_rollouts == 3
    assert planned(3).rollout_s <= found.learner_s < planned(2).rollout_s


@given(
    actors=st.integers(1, 63),
    ranks=st.integers(1, 8),
    staleness=st.integers(0, 3),
    card=st.sampled_from(["L4", "A100-80", "B200"]),
)
def test_another_actor_never_makes_the_samplers_slower(
    actors: int, ranks: int, staleness: int, card: str
) -> None:
    hardware = Hardware(source=CARDS[card])

    def seconds(count: int) -> float:
        changes: dict[str, Any] = {"rollout": {"actors": count}, "learner": {"ranks": ranks}}
        return plan(hardware, max_staleness=staleness, **changes).rollout_s

    assert seconds(actors + 1) <= seconds(actors) * (1 + 1e-9)


@given(answer=st.floats(1, 300), more=st.floats(1, 2), prompt=st.floats(1, 500))
def test_longer_texts_never_make_a_step_faster(answer: float, more: float, prompt: float) -> None:
    def seconds(prompt: float, answer: float) -> float:
        given = lengths(prompt, answer, 2 * answer)
        return plan_speed(grpo(), QWEN_7B, given, H100).step_s

    least = seconds(prompt, answer) * (1 - 1e-9)
    assert seconds(prompt, more * answer) >= least
    assert seconds(more * prompt, answer) >= least
