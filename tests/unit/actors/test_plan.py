"""Planned machines -> seats, as a run would choose them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.cluster.devices import Node, PlacementError
from actors.plan import cluster_here, seats_of
from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.planning.cards import CARDS
from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.parts import Seat
from t2g_ray.run.device.gpus import Gpu, Gpus


def seats(nodes: str, device: str = "cuda", **tree: Any) -> dict[str, Seat]:
    config = build_config(GrpoConfig, {"run_dir": "x", "device": device, **tree})
    return {seat.actor: seat for seat in seats_of(config, read_nodes(nodes, "--nodes"))}


def test_actors_with_devices_sit_where_a_run_would_put_them() -> None:
    nodes = "1 x none, 1 x 2 x L40S for learner, 2 x 1 x L40S for rollout"
    found = seats(nodes, learner={"ranks": 2}, rollout={"actors": 2}, reward={"actors": 3})
    assert [found[f"learner/{i}"] for i in (0, 1)] == [
        Seat("learner/0", 1, (0,)),
        Seat("learner/1", 1, (1,)),
    ]
    assert {found[f"rollout/{i}"].machine for i in (0, 1)} == {2, 3}
    assert len({found[f"reward/{i}"].machine for i in (0, 1, 2)}) == 3


def test_actors_without_devices_are_spread_and_learner_ranks_are_together() -> None:
    found = seats("2 x none", "cpu", learner={"ranks": 2}, rollout={"actors": 2})
    assert {found["learner/0"].machine, found["learner/1"].machine} == {0}
    assert {seat.devices for seat in found.values()} == {()}
    assert {seat.machine for seat in found.values()} == {0, 1}


def test_an_actor_without_a_place_is_refused_with_a_table() -> None:
    with pytest.raises(PlacementError, match="machine 0"):
        seats("1 x 1 x L40S", learner={"ranks": 3})


def test_this_machine_has_its_own_cards_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    node = Node("this machine", {"CPU": 4.0, "GPU": 1.0})
    cards = Gpus("580.1", (Gpu("NVIDIA L40S", 44.5), Gpu("NVIDIA L40S", 44.5)))
    monkeypatch.setattr("actors.plan.nodes_to_plan_for", lambda: [node])
    monkeypatch.setattr("actors.plan.visible_gpus", lambda: cards)
    (machine,) = cluster_here().machines
    assert [(card.name, card.memory_gib) for card in machine.cards] == [("L40S", 44.5)]
    assert machine.host_gib is not None
    assert machine.host_gib > 1


def test_a_container_has_the_memory_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{2**29}\n")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("t2g_ray.run.machine.MEMORY_LIMIT", limit)
    monkeypatch.setattr("actors.plan.nodes_to_plan_for", lambda: [Node("here", {"CPU": 4.0})])
    (machine,) = cluster_here().machines
    assert machine.host_gib == 0.5


def test_of_a_cluster_ray_names_the_cards_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    gib = 2.0**30
    resources = {"CPU": 8.0, "GPU": 1.0, "memory": 40 * gib, "object_store_memory": 20 * gib}
    known = Node("10.0.0.1", {**resources, "accelerator_type:L40S": 1.0, "rollout": 1.0})
    other = Node("10.0.0.2", {**resources, "accelerator_type:XYZ": 1.0})
    monkeypatch.setattr("actors.plan.nodes_to_plan_for", lambda: [known, other])
    first, second = cluster_here().machines
    assert first.cards == (CARDS["L40S"],)
    assert (first.host_gib, first.roles) == (60, ("rollout",))
    assert [card.memory_gib for card in second.cards] == [None]
