"""Which actors a change of turns calls; whole runs: tests/integration/test_colocated.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle
from actors.stages import turns as module
from actors.stages.turns import RaySharers, turns_of
from t2g_ray.grpo.sharing.turns import AtOnce, InTurns, Turn
from t2g_ray.grpo.stages import LoopError
from tests.integration.parts import grpo_config

LEARNERS: list[Handle[Any]] = [Handle("learner/0", 0), Handle("learner/1", 1)]
FLEET = Fleet([Handle("rollout/0", 2), Handle("rollout/1", 3)])


class Actors:
    """Answers calls; those of a method that fails do not succeed."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing = ""

    def call_all(self, handles: Iterable[Handle[Any]], method: Callable[..., object]) -> list[str]:
        return [f"{method.__name__} of {handle.name}" for handle in handles]

    def results_of(self, calls: list[str], phase: str, deadline: object) -> list[None]:
        assert str(deadline).startswith("deadlines.sync_s=")
        self.calls += calls
        if self.failing and self.failing in calls[0]:
            raise LoopError(f"the {phase} must succeed, found a failure in {calls[0]}")
        return [None] * len(calls)


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    made = Actors()
    monkeypatch.setattr(module, "call_all", made.call_all)
    monkeypatch.setattr(module, "results_of", made.results_of)
    return made


def of(colocate: str) -> Any:
    return turns_of(grpo_config(Path("run"), Path("model"), colocate=colocate), LEARNERS, FLEET)


def test_all_ranks_and_all_engines_change_together(actors: Actors) -> None:
    turns = of("time")
    assert isinstance(turns, InTurns)
    turns.hand_over(lambda: actors.calls.append("load"))
    turns.to_learner()
    ranks, engines = (0, 1), (0, 1)
    assert actors.calls == [
        *(f"leave of learner/{i}" for i in ranks),
        *(f"take_weights of rollout/{i}" for i in engines),
        "load",
        *(f"drop_copy of learner/{i}" for i in ranks),
        *(f"take_cache of rollout/{i}" for i in engines),
        *(f"sleep of rollout/{i}" for i in engines),
        *(f"come_back of learner/{i}" for i in ranks),
    ]


def test_a_failure_names_the_phase_and_the_actor(actors: Actors) -> None:
    turns = of("time")
    actors.failing = "take_cache"
    with pytest.raises(LoopError, match=r"wake of the engines' caches must succeed.*rollout/0"):
        turns.hand_over(lambda: None)
    assert turns.turn is Turn.HANDING_OVER


@pytest.mark.parametrize("colocate", ["share", "off"])
def test_devices_that_are_not_used_in_turns_are_never_left(actors: Actors, colocate: str) -> None:
    turns = of(colocate)
    assert isinstance(turns, AtOnce)
    turns.hand_over(lambda: None)
    turns.to_learner()
    assert not actors.calls


def test_the_sharers_are_those_of_the_moment(actors: Actors) -> None:
    fleet = Fleet([Handle("rollout/0", 2), Handle("rollout/1", 3)])
    sharers = RaySharers(grpo_config(Path("run"), Path("model")), LEARNERS, fleet)
    fleet.remove_last()
    sharers.engines_sleep()
    assert actors.calls == ["sleep of rollout/0"]
