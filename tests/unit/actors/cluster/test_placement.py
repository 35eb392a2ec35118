"""Configuration and nodes -> reservations; what cannot fit is refused with numbers."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cluster.devices import Demand, Node, PlacementError
from actors.cluster.placement import demands_of, fit_lines, options_of, place, plan_table
from t2g_ray.config import GrpoConfig, SftConfig, build_config


def config(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


def nodes(*resources: dict[str, float]) -> list[Node]:
    return [Node(f"node {i}", each) for i, each in enumerate(resources)]


def test_every_actor_asks_for_its_threads_and_gpus() -> None:
    bundles = demands_of(
        config(
            learner={"ranks": 2, "threads": 4, "gpus": 1},
            rollout={"actors": 1, "threads": 8, "gpus": 2},
            reward={"actors": 2},
        )
    )
    assert [(b.role, b.number, b.cpus, b.gpus) for b in bundles] == [
        ("learner", 0, 4, 1),
        ("learner", 1, 4, 1),
        ("rollout", 0, 8, 2),
        ("reward", 0, 1, 0),
        ("reward", 1, 1, 0),
    ]


def test_what_fits_is_reserved_as_asked() -> None:
    asked = demands_of(config())
    assert list(place(asked, nodes({"CPU": 8.0})).demands) == asked


def test_a_small_machine_is_shared() -> None:
    asked = [Demand("learner", 0, 2, 0), Demand("rollout", 0, 1, 0), Demand("reward", 0, 1, 0)]
    placed = place(asked, nodes({"CPU": 2.0})).demands
    # 95 % of 2 CPUs over the 4 asked for: a share of 0.475.
    assert [b.cpus for b in placed] == [0.95, 0.475, 0.475]
    assert sum(b.cpus for b in placed) <= 2.0


def test_nodes_add_up() -> None:
    asked = [Demand("rollout", i, 2, 0) for i in range(3)]
    assert list(place(asked, nodes({"CPU": 5.0}, {"CPU": 5.0})).demands) == asked


def test_free_cpus_that_are_scattered_over_nodes_are_not_counted_twice() -> None:
    asked = [Demand("rollout", i, 1, 0) for i in range(5)]
    placed = place(asked, nodes({"CPU": 2.0}, {"CPU": 2.0}, {"GPU": 1.0})).demands
    # 95 % of 4 CPUs over 5 + 1 actors: each node holds three of them.
    assert {b.cpus for b in placed} == {0.633}


@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=12),
    cpus=st.lists(st.integers(1, 16), min_size=1, max_size=5),
    choice=st.randoms(use_true_random=False),
)
def test_every_actor_finds_a_node_whichever_nodes_the_others_got(
    sizes: list[int], cpus: list[int], choice: Random
) -> None:
    asked = [Demand("rollout", i, size, 0) for i, size in enumerate(sizes)]
    placed = list(place(asked, nodes(*({"CPU": float(n)} for n in cpus))).demands)
    assert all(b.cpus <= a.cpus for a, b in zip(asked, placed, strict=True))
    free = [float(n) for n in cpus]
    choice.shuffle(placed)
    for bundle in placed:
        fitting = [i for i, room in enumerate(free) if room >= bundle.cpus]
        assert fitting, (placed, free)
        free[choice.choice(fitting)] -= bundle.cpus


def test_actors_on_a_device_fit_the_cpus_of_its_node_and_leave_room_for_the_others() -> None:
    asked = [
        Demand("learner", 0, 2, 0.5),
        Demand("rollout", 0, 2, 0.5),
        Demand("reward", 0, 1, 0),
    ]
    placed = place(asked, nodes({"CPU": 2.0, "GPU": 1.0}, {"CPU": 16.0})).demands
    # 95 % of the 2 CPUs beside the device, over the 4 that are asked for there.
    assert [demand.cpus for demand in placed] == [0.95, 0.95, 0.475]


def test_reservations_with_devices_are_those_of_the_actors_on_them() -> None:
    asked = demands_of(
        config(
            colocate="share",
            learner={"gpus": 0.5, "threads": 4},
            rollout={"gpus": 0.5, "threads": 4},
        )
    )
    placement = place(asked, nodes({"CPU": 4.0, "GPU": 1.0}))
    (slot,) = placement.slots
    assert slot.holders == placement.demands[:2]
    assert slot.cpus <= 4.0


def test_rollouts_are_spread_and_learners_are_not() -> None:
    assert options_of(Demand("rollout", 0, 1, 0))["scheduling_strategy"] == "SPREAD"
    assert options_of(Demand("learner", 0, 1, 0))["scheduling_strategy"] == "DEFAULT"


def test_a_role_with_nodes_of_its_own_goes_nowhere_else() -> None:
    head, learners = {"CPU": 8.0}, {"CPU": 8.0, "learner": 4.0}
    spot = {"CPU": 4.0, "rollout": 1.0}
    asked = [Demand("learner", 0, 4, 0), Demand("rollout", 0, 2, 0), Demand("reward", 0, 1, 0)]
    placed = place(asked, nodes(head, learners, spot)).demands
    assert [options_of(demand)["resources"] for demand in placed] == [
        {"learner": 0.0001},
        {"rollout": 0.0001},
        {},
    ]
    # The node of the rollouts, which the rewards may use too, has 0.95 * 1 CPU for 3.
    small = nodes(head, learners, {**spot, "CPU": 1.0})
    assert place(asked, small).demands[1].cpus == 0.633


def test_the_plan_shows_derived_sizes() -> None:
    table = plan_table(config(steps=10, prompts_per_step=4, group_size=3, max_staleness=1))
    assert "4 prompts x 3 completions = 12 samples a step, 10 steps, 120 completions" in table
    assert "at most 8 groups exist at a time" in table
    assert "rollout/0: 1 CPU, 0 GPU" in table


def test_the_plan_of_the_supervised_stage_names_its_ranks() -> None:
    sft = build_config(SftConfig, {"run_dir": "runs/x", "learner": {"ranks": 3}})
    assert "3 learner ranks" in plan_table(sft)


def test_the_plan_says_how_much_of_a_small_machine_each_actor_gets() -> None:
    asked = config(learner={"ranks": 2}, rollout={"actors": 2})
    assert fit_lines(asked, nodes({"CPU": 8.0})) == "5 actors fit on 1 nodes"
    line = fit_lines(asked, nodes({"CPU": 2.0}, {"CPU": 2.0}))
    assert line == "5 actors fit on 2 nodes, each with 63% of the CPUs it asks for"
    with pytest.raises(PlacementError, match="3 GPUs asked for"):
        fit_lines(config(rollout={"gpus": 2}), nodes({"CPU": 8.0}))


def test_the_plan_ends_with_the_device_of_every_actor() -> None:
    asked = config(learner={"ranks": 2, "gpus": 1}, rollout={"actors": 1, "gpus": 1})
    lines = fit_lines(asked, nodes({"CPU": 8.0, "GPU": 4.0})).splitlines()
    assert [line.split() for line in lines] == [
        ["node", "GPU", "actors", "free"],
        ["node", "0", "0", "learner/0", "1", "0"],
        ["node", "0", "1", "learner/1", "1", "0"],
        ["node", "0", "2", "rollout/0", "1", "0"],
        ["node", "0", "3", "1"],
        ["4", "actors", "fit", "on", "1", "nodes"],
    ]
