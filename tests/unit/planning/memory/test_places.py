"""Seats -> places: whose parts are where, and what fits."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.memory.held import GIB
from t2g_ray.planning.memory.places import MemoryPlan, plan_memory
from t2g_ray.planning.memory.processes import base_bytes
from t2g_ray.planning.parts import MemoryPlace, Seat
from t2g_ray.planning.shapes import PUBLISHED

HALF_B = PUBLISHED["Qwen/Qwen2.5-0.5B"]
SEATS = (Seat("learner/0", 0, (0,)), Seat("rollout/0", 1, (0,)), Seat("reward/0", 1))


def planned(
    nodes: str, seats: tuple[Seat, ...] = SEATS, device: str = "cuda", **tree: Any
) -> MemoryPlan:
    config = build_config(GrpoConfig, {"run_dir": "x", "device": device, **tree})
    return plan_memory(config, HALF_B, seats, read_nodes(nodes, "--nodes"))


def named(plan: MemoryPlan, end: str) -> MemoryPlace:
    (place,) = [place for place in plan.places if place.name.endswith(end)]
    return place


def holders(place: MemoryPlace) -> set[str]:
    return {part.holder for part in place.parts}


def test_each_device_and_machine_has_the_parts_of_those_that_are_there() -> None:
    plan = planned("2 x 1 x L40S with 8 cpus and 64 GiB")
    learner, engine = [place for place in plan.places if place.device is not None]
    assert holders(learner) == {"learner/0"}
    assert holders(engine) == {"rollout/0", "rollout.gpu_memory_utilization"}
    assert holders(named(plan, "1 (1 x L40S), host")) == {"rollout/0", "reward/0", "Ray"}
    assert "run" in holders(named(plan, "0 (1 x L40S), host"))
    assert plan.short is None


def test_an_engine_alone_fills_its_share_and_the_rest_stays_free() -> None:
    plan = planned("2 x 1 x L40S", rollout={"gpu_memory_utilization": 0.5})
    place = next(place for place in plan.places if "rollout/0" in holders(place))
    assert place.capacity is not None
    assert place.used == pytest.approx(place.capacity, abs=4)
    outside = ("kept free", "context", "buckets in flight")
    inside = sum(part.num_bytes for part in place.parts if part.name not in outside)
    assert inside == pytest.approx(place.capacity / 2, abs=4)


def test_a_card_that_is_too_small_for_the_engine_is_short() -> None:
    plan = planned("1 x 1 x L40S, 1 x 1 x 4GiB")
    assert plan.short is not None
    assert plan.short.name == "machine 1 (1 x 4GiB), GPU 0"


def test_of_several_places_that_do_not_fit_the_one_that_misses_most_is_named() -> None:
    plan = planned("1 x 1 x 5GiB, 1 x 1 x 4GiB")
    assert plan.short is not None
    assert plan.short.machine == 0


def test_on_a_shared_device_the_engine_takes_what_the_learner_leaves_in_its_turn() -> None:
    seats = (Seat("learner/0", 0, (0,)), Seat("rollout/0", 0, (0,)))
    plan = planned("1 x 1 x L40S", seats, colocate="time")
    learner, engine = named(plan, "(learner's turn)"), named(plan, "(engine's turn)")
    assert holders(learner) == holders(engine) == {"learner/0", "rollout/0"}
    names = {part.name for part in engine.parts if part.holder == "learner/0"}
    assert names == {"context", "weights"}
    both = planned("1 x 1 x L40S", seats, colocate="share")
    assert plan.room and both.room
    assert plan.room.num_bytes > both.room.num_bytes
    (shared,) = [place for place in both.places if place.device is not None]
    assert shared.fits


def test_on_a_cpu_everything_is_in_the_machine() -> None:
    seats = tuple(Seat(seat.actor, 0) for seat in SEATS)
    plan = planned("1 x none with 2 cpus and 16 GiB", seats, "cpu")
    host = named(plan, "host")
    assert {"weights", "moments", "activations", "engine weights", "KV cache"} <= {
        part.name for part in host.parts
    }
    store = named(plan, "object store")
    assert store.capacity == int(0.3 * 16 * GIB)
    flying = 4 * HALF_B.parameters
    assert [p.num_bytes for p in store.parts if p.name == "buckets in flight"] == [flying]


def test_memory_that_is_not_known_is_shown_and_refuses_nothing() -> None:
    plan = planned("2 x 1 x L40S")
    assert [p.capacity for p in plan.places if p.device is None] == [None, None]
    assert plan.short is None


def test_the_supervised_stage_has_no_engine_and_the_processes_of_its_trainer() -> None:
    config = build_config(SftConfig, {"run_dir": "x", "device": "cpu"})
    cluster = read_nodes("1 x none with 2 cpus and 8 GiB", "--nodes")
    plan = plan_memory(config, HALF_B, (Seat("learner/0", 0),), cluster)
    assert plan.room is None
    (host,) = plan.places
    of_trainer = [part.num_bytes for part in host.parts if part.holder == "Ray Train"]
    assert of_trainer == [base_bytes("trainer", "cpu")]
