"""Which versions are verified: the first ones, every so often, and each that a newcomer gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle
from actors.stages import weights as module
from actors.stages.transports import Sent
from actors.stages.weights import RayWeights
from t2g_ray.config import GrpoConfig
from t2g_ray.weights.manifest import Manifest
from tests.integration.parts import grpo_config

Result = TypeVar("Result")
CONFIG = grpo_config(Path("run"), Path("model"), sync={"verify_every": 1000})


class Recorder:
    """A transport that notes what it sends to whom."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.sent: list[tuple[set[Any], bool]] = []
        self.whole: list[bool] = []

    def send(self, version: int, *, is_whole: bool, verify: bool) -> Sent:
        self.whole.append(is_whole)
        self.sent.append(({handle.actor for handle in self.fleet}, verify))
        return Sent(Manifest(version=version, entries=(), num_buckets=0), [])


def publishing(fleet: Fleet, config: GrpoConfig = CONFIG) -> tuple[RayWeights, Recorder]:
    recorder = Recorder(fleet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "transport_of", lambda *_: recorder)
        return RayWeights(config, learners=[], fleet=fleet), recorder


def test_a_sync_is_verified_when_an_actor_has_joined_in_the_place_of_another() -> None:
    fleet = Fleet([Handle("rollout/0", "a"), Handle("rollout/1", "b")])
    weights, _ = publishing(fleet)
    assert [weights.publish(version).is_verified for version in (1, 2, 3)] == [True, True, False]
    fleet.remove_last()
    fleet.add(Handle("rollout/1", "c"))
    assert [weights.publish(version).is_verified for version in (4, 5)] == [True, False]


def test_frozen_weights_go_once_to_each_actor() -> None:
    fleet = Fleet([Handle("rollout/0", "a")])
    weights, recorder = publishing(fleet)
    for version in (1, 2, 3):
        weights.publish(version)
    fleet.add(Handle("rollout/1", "b"))
    for version in (4, 5):
        weights.publish(version)
    fleet.remove_last()
    weights.publish(6)
    assert recorder.whole == [True, False, False, True, False, False]


def test_engines_that_sleep_get_their_frozen_weights_with_every_version() -> None:
    parts = {"rollout": {"gpus": 0.5}, "learner": {"gpus": 0.5}}
    config = grpo_config(Path("run"), Path("model"), device="cuda", colocate="time", **parts)
    weights, recorder = publishing(Fleet([Handle("rollout/0", "a")]), config)
    for version in (1, 2, 3):
        weights.publish(version)
    assert recorder.whole == [True, True, True]


@given(st.lists(st.sampled_from(["join", "leave", "publish"]), max_size=30))
def test_no_actor_computes_with_a_first_version_that_was_not_verified(moves: list[str]) -> None:
    fleet = Fleet([Handle("rollout/0", -1)])
    weights, recorder = publishing(fleet)
    for number, move in enumerate([*moves, "publish"]):
        if move == "join":
            fleet.add(Handle(f"rollout/{len(fleet)}", number))
        elif move == "leave" and len(fleet) > 1:
            fleet.remove_last()
        elif move == "publish":
            weights.publish(1 + number % 999)
    served: set[Any] = set()
    for actors, is_verified in recorder.sent:
        assert is_verified or actors <= served
        served |= actors


class Device:
    """Whose turn it is, as the transport sees it."""

    def __init__(self) -> None:
        self.is_handed_over = False

    def to_learner(self) -> None:
        raise AssertionError("a sync asks for the engines")

    def hand_over(self, send: Callable[[], Result]) -> Result:
        self.is_handed_over = True
        sent = send()
        self.is_handed_over = False
        return sent


def test_weights_are_sent_and_loaded_while_the_device_is_handed_over() -> None:
    fleet, device = Fleet([Handle("rollout/0", "a")]), Device()
    seen: list[bool] = []

    class Sender(Recorder):
        def send(self, version: int, *, is_whole: bool, verify: bool) -> Sent:
            seen.append(device.is_handed_over)
            load: Any = "a load that is under way"
            sent = super().send(version, is_whole=is_whole, verify=verify)
            return replace(sent, loads=[load])

    def sync_results(calls: list[str], phase: str, deadline: object) -> None:
        seen.append(device.is_handed_over)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "transport_of", lambda *_: Sender(fleet))
        patch.setattr(module, "sync_results", sync_results)
        RayWeights(CONFIG, learners=[], fleet=fleet, turns=device).publish(1)
    assert seen == [True, True]
