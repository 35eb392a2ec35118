"""Bounds in the run folder -> actors that join and leave, with actors that are made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from actors.cluster.devices import PlacementError
from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle
from actors.cluster.start import Cluster
from actors.stages import scaling
from actors.stages.scaling import RolloutScaler, scaler_of
from actors.stages.weights import RayWeights
from actors.workers.rollout import RolloutActor
from t2g_ray.config import DeadlineConfig
from t2g_ray.grpo.dealing import Dealer
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import Answer, Bounds, read_answer, write_request
from t2g_ray.run.trace import Span, Tracer
from t2g_ray.types import Prompt
from tests.integration.parts import grpo_config
from tests.unit.grpo.scaling.parts import MadeUpRun


@dataclass(eq=False)
class Standing:
    """A rollout actor that answers at once."""

    name: str
    is_ended: bool = False

    def kill(self) -> None:
        self.is_ended = True


class NoLoads:
    """Weights that have arrived everywhere."""

    def wait_for_loads(self) -> None:
        pass


@dataclass
class Desk:
    """A run whose steps take what `times` says, and its scaler."""

    folder: Path
    times: MadeUpRun
    first: int = 1
    most: int = 100
    """Actors that the cluster has room for."""
    tracer: Tracer = field(default_factory=lambda: Tracer("loop"))
    last: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run = RunDir(self.folder)
        self.fleet = Fleet([self.actor(number) for number in range(self.first)])
        config = grpo_config(self.folder, Path("model"))
        self.dealer = Dealer(config, self.first)
        self.scaler = RolloutScaler(
            self.run,
            cluster=Cluster(DeadlineConfig(), self.fleet),
            dealer=self.dealer,
            weights=cast(RayWeights, NoLoads()),
            start=self.start,
            last_line=lambda: self.last,
            tracer=self.tracer,
            max_staleness=1,
        )

    def actor(self, number: int) -> Handle[RolloutActor]:
        return cast("Handle[RolloutActor]", Standing(f"rollout/{number}"))

    def start(self, number: int) -> Handle[RolloutActor]:
        if number >= self.most:
            raise PlacementError(f"no device is free for rollout/{number}")
        return self.actor(number)

    def steps(self, count: int) -> list[int]:
        """The numbers of actors that these steps had, each once in a row."""
        found: list[int] = []
        for _ in range(count):
            self.last = self.times.line(len(self.fleet))
            self.scaler.step()
            found += [] if found[-1:] == [len(self.fleet)] else [len(self.fleet)]
        return found

    def answer(self) -> Answer:
        found = read_answer(self.run.rollouts_json)
        assert found is not None
        return found

    def changes(self) -> list[Span]:
        return self.tracer.drain()


@pytest.fixture(autouse=True)
def answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def call_all(handles: list[Any], method: object) -> list[Any]:
        return list(handles)

    monkeypatch.setattr(scaling, "call_all", call_all)
    monkeypatch.setattr(scaling, "is_over", lambda answers, timeout_s: True)
    monkeypatch.setattr(scaling, "results_of", lambda *arguments: None)


def test_a_run_follows_its_figures_within_bounds_and_tells_each_change_with_its_reason(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, MadeUpRun(generate_s=4.0, train_s=1.0))
    assert desk.steps(30) == [1], "nothing was asked"
    write_request(desk.run.scale_request, Bounds(1, 2, cool_down_s=0))
    assert desk.steps(30) == [1, 2]
    told = desk.answer()
    assert (told.rollouts, told.auto) == (2, Bounds(1, 2, 0))
    assert (
        "1 -> 2 rollout actors: the learner waits 3.00 s or more of a step of 4.00" in told.change
    )
    desk.times.train_s = 9.0
    assert desk.steps(40) == [2, 1]
    assert (
        "2 -> 1 rollout actors: samplers write 2.00 s of a step of 9.00 s" in desk.answer().change
    )
    up, down = desk.changes()
    assert (up.name, up.actor, down.name) == (
        "1 -> 2 rollout actors",
        "scaling",
        "2 -> 1 rollout actors",
    )
    assert up.args["reason"].endswith("one more gives 1.00 of its ideal gain")
    assert up.step < down.step


def test_a_request_that_stands_is_followed_by_the_run_that_goes_on(tmp_path: Path) -> None:
    write_request(RunDir(tmp_path).scale_request, Bounds(2, 3, cool_down_s=0))
    desk = Desk(tmp_path, MadeUpRun(generate_s=1.0, train_s=1.0))
    assert desk.steps(10) == [1, 2]
    assert desk.answer().change.endswith("1 -> 2 rollout actors: at least 2 are asked for")
    write_request(desk.run.scale_request, 2)
    desk.times.generate_s = 100.0
    assert desk.steps(60) == [2]
    assert desk.answer().auto is None


def test_an_actor_with_work_left_is_ended_once_that_arrived(tmp_path: Path) -> None:
    desk = Desk(tmp_path, MadeUpRun(generate_s=1.0, train_s=1.0), first=2)
    leaving = cast(Standing, desk.fleet[1])
    desk.dealer.deal(Prompt(index=position, token_ids=(1, 2)) for position in (6, 7))
    write_request(desk.run.scale_request, Bounds(1, 1))
    assert desk.steps(5) == [2]
    assert (desk.dealer.num_used, leaving.is_ended, desk.changes()) == (1, False, [])
    desk.dealer.close(7)
    assert desk.steps(2) == [1]
    assert leaving.is_ended
    assert [span.name for span in desk.changes()] == ["2 -> 1 rollout actors"]


def test_a_cluster_without_room_leaves_the_run_as_it_was_and_is_asked_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, MadeUpRun(generate_s=4.0, train_s=1.0), most=1)
    write_request(desk.run.scale_request, Bounds(1, 2, cool_down_s=0))
    assert desk.steps(60) == [1]
    assert desk.answer().failure == "no device is free for rollout/1"
    (failed,) = desk.changes()
    assert failed.args["failure"] == "no device is free for rollout/1"
    desk.most = 2
    desk.scaler._retry_at_s = 0.0
    assert desk.steps(5) == [1, 2]
    assert desk.answer().failure == ""


def test_engines_that_take_turns_with_the_learner_answer_that_their_number_is_fixed(
    tmp_path: Path,
) -> None:
    fleet = Fleet([cast("Handle[RolloutActor]", Standing("rollout/0"))])
    config = grpo_config(tmp_path, Path("model"), colocate="time")
    found = scaler_of(
        config,
        RunDir(tmp_path),
        model="model",
        cluster=Cluster(DeadlineConfig(), fleet),
        dealer=Dealer(config, 1),
        weights=cast(RayWeights, NoLoads()),
        last_line=dict,
        tracer=Tracer("loop"),
    )
    assert found is None
    answer = read_answer(RunDir(tmp_path).rollouts_json)
    assert answer is not None
    assert "colocate=time" in answer.fixed
