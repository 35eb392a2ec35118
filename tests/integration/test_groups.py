"""RayGroups over real actors with engines that sleep: what is given up, and every deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import ray

from actors.cluster.waiting import results_of
from actors.stages.groups import RayGroups
from benchmarks.speed.scale import SimulatedReward, SimulatedRollout
from t2g_ray.config import DeadlineConfig, GrpoConfig, build_config
from t2g_ray.graph import Graph
from t2g_ray.grpo.stages import LoopError
from t2g_ray.rollout.spec import rollout_spec
from t2g_ray.types import Prompt, Record

GROUP_S = 0.4
CONFIG = build_config(GrpoConfig, {"run_dir": "x"})
RECORD = Record(text="", entity_types=(), relation_types=(), graph=Graph((), ()))


class Clerk:
    """Answers late, or not at all."""

    def answer(self, after_s: float) -> float:
        time.sleep(after_s)
        return after_s

    def fail(self) -> None:
        raise ValueError("the clerk is ill")


@pytest.fixture(scope="module")
def rollouts() -> Iterator[list[Any]]:
    """Two actors that finish a group every GROUP_S seconds, one after the other."""
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    actor: Any = ray.remote(SimulatedRollout).options(num_cpus=0, max_concurrency=16)
    spec = rollout_spec(CONFIG, "simulated")
    made = [actor.remote(replace(spec, sampler=number), GROUP_S) for number in range(2)]
    ray.get([one.drain_spans.remote() for one in made])
    yield made
    ray.shutdown()


@pytest.fixture(scope="module")
def reward(rollouts: list[Any]) -> Any:
    made: Any = ray.remote(SimulatedReward).options(num_cpus=0).remote()
    ray.get(made.__ray_ready__.remote())
    return made


def prompt_at(position: int) -> Prompt:
    return Prompt(index=position, token_ids=(1, 2, 3))


def groups_of(rollouts: list[Any], reward: Any, config: GrpoConfig = CONFIG) -> RayGroups:
    return RayGroups(config, rollouts=rollouts, rewards=[reward], prompt_at=prompt_at)


def late(config: GrpoConfig) -> GrpoConfig:
    """A run that waits for less time than a group takes."""
    deadlines = config.deadlines.model_copy(update={"generate_s": GROUP_S / 4})
    return config.model_copy(update={"deadlines": deadlines})


def test_groups_that_are_given_up_leave_nothing_behind(rollouts: list[Any], reward: Any) -> None:
    groups = groups_of(rollouts, reward)
    groups.start(range(40), min_version=-1)
    taken = groups.take(2, dues=(), should_stop=lambda: False)
    rest = [p for p in range(40) if p not in {ready.summary.index for ready in taken}]
    surplus = groups.end(rest)
    # Each actor finishes the group at hand before it reads the message, and begins no other.
    finished = {summary.index for summary in surplus.finished}
    assert finished | surplus.aborted.keys() == set(rest)
    assert len(surplus.aborted) >= 2
    stock = groups.stock()
    assert (stock.arrived_groups, stock.waiting_groups) == (40 - len(surplus.aborted), 0)
    # They can be begun again at once.
    last = rest[-2:]
    assert surplus.aborted.keys() >= set(last)
    groups.start(last, min_version=-1)
    again = groups.take(2, dues=(), should_stop=lambda: False)
    assert [ready.summary.index for ready in again] == last


def test_groups_are_taken_on_and_scored_while_others_are_waited_for(
    rollouts: list[Any], reward: Any
) -> None:
    clerk: Any = ray.remote(Clerk).options(num_cpus=0).remote()
    ray.get(clerk.answer.remote(0))
    groups = groups_of(rollouts, reward)
    groups.start(range(4), min_version=-1)
    call = clerk.answer.remote(3.5 * GROUP_S)
    assert results_of({"clerk": call}, "errand", CONFIG.deadlines, "train_s", groups.attend)
    # All were written after two times GROUP_S; nobody asked for them.
    assert groups.stock().waiting_groups == 4
    # A call that does not end is left at its deadline, and there may be no group to wait for.
    started = time.monotonic()
    groups.attend([clerk.answer.remote(60)], 0.2)
    assert 0.2 <= time.monotonic() - started < 1
    ray.kill(clerk)


def test_greedy_answers_come_in_the_order_of_their_prompts(
    rollouts: list[Any], reward: Any
) -> None:
    prompts = [prompt_at(index) for index in (-3, -1, -2)]
    answers = groups_of(rollouts, reward).greedy(prompts, max_new_tokens=4, min_version=-1)
    assert [group.prompt.index for group in answers] == [-3, -1, -2]
    assert {group.sampler for group in answers} == {0, 1}


def test_greedy_answers_that_do_not_come_name_those_who_owe_them(
    rollouts: list[Any], reward: Any
) -> None:
    groups = groups_of(rollouts, reward, late(CONFIG))
    message = (
        r"greedy answers must arrive within deadlines\.generate_s=0\.1 s, still waiting: greedy "
        r"answers under version -1 \(rollout/0: 2 prompts, rollout/1: 1 prompts\)"
    )
    with pytest.raises(LoopError, match=message):
        groups.greedy([prompt_at(-10 - i) for i in range(3)], max_new_tokens=4, min_version=-1)


@pytest.mark.usefixtures("rollouts")
def test_actors_that_are_late_or_fail_are_named_with_what_they_were_asked_for() -> None:
    actor: Any = ray.remote(Clerk).options(num_cpus=0)
    first, second = actor.remote(), actor.remote()
    deadlines = DeadlineConfig(sync_s=2.0)
    calls = {"clerk/0": first.answer.remote(0.0), "clerk/1": second.answer.remote(0.1)}
    assert results_of(calls, "count", DeadlineConfig(), "sync_s") == [0.0, 0.1]
    calls = {"clerk/0": first.answer.remote(0.0), "clerk/1": second.answer.remote(60.0)}
    with pytest.raises(LoopError, match=r"the count must end .*sync_s=2 s, .* for clerk/1$"):
        results_of(calls, "count", deadlines, "sync_s")
    calls = {"clerk/1": calls["clerk/1"], "clerk/0": first.fail.remote()}
    with pytest.raises(LoopError, match=r"(?s)a failure in clerk/0: .*the clerk is ill"):
        results_of(calls, "count", deadlines, "sync_s")
