"""RayGroups over real actors with engines that sleep: what is given up, and every deadline.

The reward actors work behind `actors.stages.scoring`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import ray

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle
from actors.cluster.waiting import listed, results_of
from actors.stages.greedy import greedy_groups
from actors.stages.groups import RayGroups
from actors.workers.reward import GoldRecords, RewardActor
from benchmarks.scale.simulated import SimulatedReward, SimulatedRollout
from t2g_ray.config import Deadline, GrpoConfig, build_config
from t2g_ray.graph import Graph
from t2g_ray.grpo.stages import LoopError
from t2g_ray.rollout.spec import rollout_spec
from t2g_ray.types import Group, Prompt, Record

GROUP_S = 0.4
CONFIG = build_config(GrpoConfig, {"run_dir": "x"})
RECORD = Record(text="", entity_types=(), relation_types=(), graph=Graph((), ()))


class Clerk:
    """Answers late, or not at all."""

    def answer(self, after_s: float) -> float:
        time.sleep(after_s)
        return after_s

    def fail(self) -> float:
        raise ValueError("the clerk is ill")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two actors that finish a group every GROUP_S seconds, one after the other."""
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    actor: Any = ray.remote(SimulatedRollout).options(num_cpus=0, max_concurrency=16)
    spec = rollout_spec(CONFIG, "simulated")
    made = [actor.remote(replace(spec, sampler=number), GROUP_S) for number in range(2)]
    ray.get([one.drain_spans.remote() for one in made])
    yield Fleet(Handle(f"rollout/{number}", one) for number, one in enumerate(made))
    ray.shutdown()


@pytest.fixture(scope="module")
def reward(fleet: Fleet) -> Handle[RewardActor]:
    made: Any = ray.remote(SimulatedReward).options(num_cpus=0).remote()
    ray.get(made.__ray_ready__.remote())
    return Handle("reward/0", made)


class Prompts:
    """All alike."""

    def prompt(self, position: int) -> Prompt:
        return Prompt(index=position, token_ids=(1, 2, 3))

    def record(self, position: int) -> Record:
        return RECORD


def groups_of(fleet: Fleet, reward: Handle[RewardActor], config: GrpoConfig = CONFIG) -> RayGroups:
    return RayGroups(config, fleet=fleet, rewards=[reward], prompts=Prompts())


class Stuck(SimulatedReward):
    """Scores nothing in time."""

    def score(self, gold: GoldRecords, *groups: Group) -> Any:
        time.sleep(60)


class Deaf(SimulatedRollout):
    """Gives up nothing in time."""

    def abort(self, positions: Sequence[int]) -> dict[int, list[int]]:
        time.sleep(60)
        return {}


SOON = build_config(GrpoConfig, {"run_dir": "x", "deadlines": {"generate_s": 0.2}})


def test_groups_that_do_not_come_name_their_actors_and_prompts(
    fleet: Fleet, reward: Handle[RewardActor]
) -> None:
    groups = groups_of(fleet, reward, SOON)
    groups.start(range(100, 105), min_version=-1)
    message = (
        r"groups must arrive within deadlines\.generate_s=0\.2 s, still waiting: \d groups "
        r"\(rollout/0: prompts \[.*104\] \(\d\)"
    )
    with pytest.raises(LoopError, match=message):
        groups.take(5, dues=(), should_stop=lambda: False)
    with pytest.raises(LoopError, match="some group must be in flight to be waited for, found non"):
        groups_of(fleet, reward, SOON).take(1, dues=(), should_stop=lambda: False)


def test_groups_that_are_not_given_up_or_never_scored_end_the_wait_by_name(
    fleet: Fleet, reward: Handle[RewardActor]
) -> None:
    deaf: Any = ray.remote(Deaf).options(num_cpus=0, max_concurrency=16)
    handle = Handle("rollout/7", deaf.remote(rollout_spec(CONFIG, "simulated"), GROUP_S))
    ray.get(handle.actor.drain_spans.remote())
    groups = groups_of(Fleet([handle]), reward, SOON)
    groups.start([200], min_version=-1)
    message = r"abort of groups must end within deadlines\.generate_s=0\.2 s, .* for rollout/7$"
    with pytest.raises(LoopError, match=message):
        groups.end([200])
    handle.kill()

    stuck: Any = ray.remote(Stuck).options(num_cpus=0).remote()
    unscored = groups_of(fleet, Handle("reward/7", stuck), SOON)
    unscored.start([300], min_version=-1)
    time.sleep(3 * GROUP_S)  # it is written by now, so that it cannot be given up any more
    with pytest.raises(LoopError, match=r"within deadlines\.generate_s=0\.2 s, .* 1 in scoring$"):
        unscored.end([300])
    ray.kill(stuck)


def clerk(number: int = 0) -> Handle[Clerk]:
    made: Any = ray.remote(Clerk).options(num_cpus=0).remote()
    return Handle(f"clerk/{number}", made)


def test_groups_that_are_given_up_leave_nothing_behind(
    fleet: Fleet, reward: Handle[RewardActor]
) -> None:
    groups = groups_of(fleet, reward)
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
    fleet: Fleet, reward: Handle[RewardActor]
) -> None:
    busy, deadline = clerk(), CONFIG.deadlines.train
    results_of([busy.call(Clerk.answer, 0)], "start", deadline)
    groups = groups_of(fleet, reward)
    groups.start(range(4), min_version=-1)
    call = busy.call(Clerk.answer, 3.5 * GROUP_S)
    assert results_of([call], "errand", deadline, groups.attend)
    # All were written after two times GROUP_S; nobody asked for them.
    assert groups.stock().waiting_groups == 4
    # A call that does not end is left at its deadline, and there may be no group to wait for.
    started = time.monotonic()
    groups.attend([busy.call(Clerk.answer, 60)], 0.2)
    assert 0.2 <= time.monotonic() - started < 1
    busy.kill()


@pytest.mark.usefixtures("reward")
def test_greedy_answers_come_in_the_order_of_their_prompts(fleet: Fleet) -> None:
    answers = greedy_answers(fleet, [3, 1, 2], CONFIG.deadlines.generate)
    assert [group.prompt.index for group in answers] == [3, 1, 2]
    assert {group.sampler for group in answers} == {0, 1}


@pytest.mark.usefixtures("reward")
def test_greedy_answers_that_do_not_come_name_those_who_owe_them(fleet: Fleet) -> None:
    message = (
        r"greedy answers must arrive within deadlines\.generate_s=0\.1 s, still waiting: greedy "
        r"answers under version -1 \(rollout/0: 2 prompts, rollout/1: 1 prompts\)"
    )
    with pytest.raises(LoopError, match=message):
        greedy_answers(fleet, [10, 11, 12], Deadline("generate_s", GROUP_S / 4))


@pytest.mark.usefixtures("reward")
def test_an_actor_without_weights_answers_nothing_until_it_gets_prompts(
    fleet: Fleet, reward: Handle[RewardActor]
) -> None:
    joined = Fleet(fleet)
    groups = groups_of(joined, reward)
    joined.add(Handle("rollout/2", None))
    assert [handle.name for handle in groups.serving] == ["rollout/0", "rollout/1"]
    groups.dealer.use_first(3)
    assert [handle.name for handle in groups.serving] == ["rollout/0", "rollout/1", "rollout/2"]


def greedy_answers(fleet: Fleet, indices: list[int], deadline: Deadline) -> list[Group]:
    prompts = [Prompt(index=i, token_ids=(1, 2, 3), purpose="eval") for i in indices]
    return greedy_groups(list(fleet), prompts, max_new_tokens=4, min_version=-1, deadline=deadline)


def test_of_many_actors_the_first_ones_are_named_and_the_rest_counted() -> None:
    names = [f"rollout/{number}" for number in range(1024)]
    assert listed(names[:3]) == "rollout/0, rollout/1, rollout/2"
    assert listed(names, "; ").endswith("; rollout/15; and 1008 more")


@pytest.mark.usefixtures("fleet")
def test_actors_that_are_late_or_fail_are_named_with_what_they_were_asked_for() -> None:
    first, second = clerk(0), clerk(1)
    soon = Deadline("sync_s", 2.0)
    calls = [first.call(Clerk.answer, 0.0), second.call(Clerk.answer, 0.1)]
    assert results_of(calls, "count", Deadline("sync_s", 300)) == [0.0, 0.1]
    late = second.call(Clerk.answer, 60.0)
    with pytest.raises(LoopError, match=r"the count must end .*sync_s=2 s, .* for clerk/1$"):
        results_of([first.call(Clerk.answer, 0.0), late], "count", soon)
    with pytest.raises(LoopError, match=r"(?s)a failure in clerk/0: .*the clerk is ill"):
        results_of([late, first.call(Clerk.fail)], "count", soon)
