"""Actors that hang, die or fail to start: the run ends with their names, and they end too."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster import start as cluster
from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle
from actors.cluster.start import Cluster, start_cluster
from actors.cluster.waiting import AnyRef, is_over, results_of
from actors.stages import scaling
from actors.stages.scaling import RolloutScaler
from actors.stages.weights import RayWeights
from actors.workers.learner import LearnerActor
from t2g_ray.config import Deadline, DeadlineConfig
from t2g_ray.grpo.dealing import Dealer
from t2g_ray.grpo.stages import LoopError
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import read_answer, write_request
from t2g_ray.run.trace import Tracer
from tests.integration.parts import grpo_config

SOON = DeadlineConfig(train_s=2, save_s=2)


class Hanging:
    """Answers no call of a phase in time."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def load(self, *arguments: Any) -> Any:
        time.sleep(60)

    drain_spans = node = save = publish = load


class Working(Hanging):
    """Answers the same calls at once."""

    def load(self, *arguments: Any) -> Any:
        return []

    drain_spans = node = save = load

    def publish(self, *arguments: Any) -> Any:
        return None, []


class Dying(Working):
    """Ends its process instead of answering."""

    def load(self, *arguments: Any) -> Any:
        os._exit(1)

    node = save = load


class Failing(Working):
    """Cannot be started."""

    def __init__(self, *arguments: Any) -> None:
        raise RuntimeError("no tokenizer here")


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    # By value: the actors then start without what this module imports, in a second.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def started(role: str, *kinds: type) -> list[Handle[Any]]:
    actors: list[Any] = [ray.remote(kind).options(num_cpus=0).remote() for kind in kinds]
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    return [Handle(f"{role}/{number}", actor) for number, actor in enumerate(actors)]


def running(run_dir: Path) -> list[str]:
    named = ray.util.list_named_actors(all_namespaces=True)
    return sorted(a["name"] for a in named if a["namespace"] == f"t2g:{run_dir.resolve()}")


def starting(number: int, kind: type) -> Handle[Any]:
    remote: Any = ray.remote(kind)
    return Handle(f"rollout/{number}", remote.options(num_cpus=0).remote())


def test_newcomers_that_fail_leave_the_run_as_it_was_and_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "RETRY_S", 0.5)
    config, run = grpo_config(tmp_path, Path("model")), RunDir(tmp_path)
    fleet = Fleet(started("rollout", Working))
    members = Cluster(DeadlineConfig(start_s=3), fleet)
    kinds, times = [[Failing, Working], [Working, Dying], [Hanging, Working]], list[float]()
    told: list[tuple[int, str]] = []

    def start(number: int) -> Handle[Any]:
        if number == 1:
            times.append(time.monotonic())
        tries = [*kinds, [Working, Working]]
        return starting(number, tries[len(times) - 1][number - 1])

    scaler = RolloutScaler(
        run,
        cluster=members,
        dealer=Dealer(config, 1),
        weights=RayWeights(config, learners=[], fleet=fleet),
        start=start,
        last_line=lambda: {"step": 1},
        tracer=Tracer("loop"),
        max_staleness=0,
    )
    write_request(run.scale_request, 3)
    end = time.monotonic() + 60
    while (not told or told[-1][0] != 3) and time.monotonic() < end:
        scaler.step()
        answer = read_answer(run.rollouts_json)
        assert answer is not None
        now = answer.rollouts, answer.failure
        told += [now] if now not in told else []
        time.sleep(0.05)
    assert [number for number, _ in told] == [1, 1, 1, 1, 3]
    assert "rollout/1" in told[1][1]
    assert "tokenizer" in told[1][1]
    assert "rollout/2" in told[2][1]
    assert "died" in told[2][1]
    assert told[3][1] == "rollout/1 must answer within deadlines.start_s=3 s, found no answer"
    assert told[4] == (3, ""), "what failed before is no longer told"
    assert all(second - first >= 0.5 for first, second in pairwise(times))
    assert [handle.name for handle in fleet] == ["rollout/0", "rollout/1", "rollout/2"]
    members.close()


@pytest.mark.parametrize("method", [LearnerActor.load, LearnerActor.save])
def test_a_learner_rank_that_hangs_is_named_with_the_phase(
    method: Callable[[LearnerActor, Path], object],
) -> None:
    ranks = Cluster(SOON, learners=started("learner", Working, Hanging))
    message = r"restore of step 4 must end within deadlines\.save_s=2 s, .* learner/1$"
    with pytest.raises(LoopError, match=message):
        ranks.each_learner("restore of step 4", method, Path("x"))
    ranks.close()


def test_a_learner_rank_that_dies_is_named_at_once() -> None:
    ranks = Cluster(DeadlineConfig(), learners=started("learner", Hanging, Dying))
    with pytest.raises(LoopError, match=r"(?s)the restore must succeed, .* failure in learner/1"):
        ranks.each_learner("restore", LearnerActor.load, Path("x"))
    ranks.close()


class LosingPeer(Working):
    """Says at once that its peer is gone."""

    def load(self, *arguments: Any) -> Any:
        raise RuntimeError("connection closed by peer")


class DyingLater(Working):
    """Is known to be dead only after its peers complained."""

    def load(self, *arguments: Any) -> Any:
        time.sleep(1)
        os._exit(1)


@pytest.mark.parametrize("peer", [LosingPeer, Hanging])
def test_who_died_is_named_and_not_who_noticed_even_while_groups_are_scored(peer: type) -> None:
    ranks = started("learner", peer, DyingLater)
    calls = [rank.call(LearnerActor.load, Path("x")) for rank in ranks]

    def meanwhile(waited: Sequence[AnyRef], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not is_over(waited, 0.02) and time.monotonic() < end:
            pass

    began = time.monotonic()
    with pytest.raises(LoopError, match="step must succeed, found a failure in learner/1"):
        results_of(calls, "step", Deadline("train_s", 40), meanwhile)
    assert time.monotonic() - began < 20
    for rank in ranks:
        rank.kill()


def test_all_ranks_that_died_are_named_with_their_devices_and_those_without_an_answer() -> None:
    ranks = [
        replace(rank, where=f"GPU {number} of node x")
        for number, rank in enumerate(started("learner", Dying, DyingLater, Hanging))
    ]
    calls = [rank.call(LearnerActor.load, Path("x")) for rank in ranks]
    with pytest.raises(LoopError) as caught:
        results_of(calls, "step", Deadline("train_s", 40))
    told = str(caught.value)
    assert "found a failure in learner/0 (GPU 0 of node x): " in told
    assert "; learner/1 (GPU 1 of node x): " in told
    assert told.endswith("; no answer from learner/2 (GPU 2 of node x)")
    for rank in ranks:
        rank.kill()


def test_actors_that_do_not_answer_questions_are_named() -> None:
    all_actors = Cluster(
        SOON,
        Fleet(started("rollout", Working)),
        started("reward", Hanging),
        started("learner", Working),
    )
    with pytest.raises(LoopError, match=r"deadlines\.train_s=2 s, still waiting for reward/0$"):
        all_actors.drain_spans()
    with pytest.raises(LoopError, match=r"still waiting for reward/0$"):
        all_actors.placement()
    all_actors.close()


def test_a_sync_that_hangs_names_the_side_the_actor_and_the_version(tmp_path: Path) -> None:
    config = grpo_config(tmp_path / "run", Path("model"), deadlines={"sync_s": 2})
    learners = started("learner", Working, Hanging)
    rollouts = started("rollout", Working, Hanging)
    with pytest.raises(LoopError, match=r"gather of version 7 .* waiting for learner/1$"):
        RayWeights(config, learners=learners, fleet=Fleet()).publish(7)
    sync = RayWeights(config, learners=learners[:1], fleet=Fleet(rollouts))
    with pytest.raises(LoopError, match=r"load of version 7 .* waiting for rollout/1$"):
        sync.publish(7)
    for one in (*learners, *rollouts):
        one.kill()


@pytest.mark.parametrize(
    ("reward", "start_s", "message"),
    [
        (
            Failing,
            60,
            r"(?s)rollout and reward actors must succeed, .* reward/0.*tokenizer",
        ),
        (Hanging, 5, r"deadlines\.start_s=5 s, still waiting for .*reward/0"),
    ],
)
def test_actors_end_when_one_of_them_does_not_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reward: type,
    start_s: float,
    message: str,
) -> None:
    monkeypatch.setattr(cluster, "LearnerActor", Working)
    monkeypatch.setattr(cluster, "_join_learners", lambda *arguments: None)
    monkeypatch.setattr(cluster, "RolloutActor", Working)
    monkeypatch.setattr(cluster, "reward_actor_class", lambda: ray.remote(reward))
    (tmp_path / "config.json").write_text("{}")
    config = grpo_config(tmp_path / "run", tmp_path, deadlines={"start_s": start_s})
    with pytest.raises(LoopError, match=message) as caught:
        start_cluster(config, str(tmp_path), "model")
    assert "left free on the cluster" in caught.value.__notes__[0]
    end = time.monotonic() + 10
    while (left := running(tmp_path / "run")) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []
