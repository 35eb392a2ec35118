"""Configuration and nodes -> reservations; what cannot fit is refused with numbers."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cluster.placement import Bundle, PlacementError, bundles_of, fit_line, place, plan_table
from t2g_ray.config import GrpoConfig, SftConfig, build_config


def config(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


def test_every_actor_asks_for_its_threads_and_gpus() -> None:
    bundles = bundles_of(
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
    bundles = bundles_of(config())
    assert place(bundles, [{"CPU": 8.0}]) == bundles


def test_a_small_machine_is_shared() -> None:
    asked = [Bundle("learner", 0, 2, 0), Bundle("rollout", 0, 1, 0), Bundle("reward", 0, 1, 0)]
    placed = place(asked, [{"CPU": 2.0}])
    # 95 % of 2 CPUs over the 4 asked for: a share of 0.475.
    assert [b.cpus for b in placed] == [0.95, 0.475, 0.475]
    assert sum(b.cpus for b in placed) <= 2.0


def test_nodes_add_up() -> None:
    asked = [Bundle("rollout", i, 2, 0) for i in range(3)]
    assert place(asked, [{"CPU": 5.0}, {"CPU": 5.0}]) == asked


def test_free_cpus_that_are_scattered_over_nodes_are_not_counted_twice() -> None:
    asked = [Bundle("rollout", i, 1, 0) for i in range(5)]
    placed = place(asked, [{"CPU": 2.0}, {"CPU": 2.0}, {"GPU": 1.0}])
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
    asked = [Bundle("rollout", i, size, 0) for i, size in enumerate(sizes)]
    placed = place(asked, [{"CPU": float(n)} for n in cpus])
    assert all(b.cpus <= a.cpus for a, b in zip(asked, placed, strict=True))
    free = [float(n) for n in cpus]
    choice.shuffle(placed)
    for bundle in placed:
        fitting = [i for i, room in enumerate(free) if room >= bundle.cpus]
        assert fitting, (placed, free)
        free[choice.choice(fitting)] -= bundle.cpus


def test_gpus_that_do_not_exist_are_refused_with_requested_and_available() -> None:
    with pytest.raises(PlacementError) as caught:
        place(bundles_of(config(rollout={"actors": 2, "gpus": 2})), [{"CPU": 8.0}, {"CPU": 8.0}])
    assert "5 GPUs asked for" in str(caught.value)
    assert "node 0: 0, node 1: 0" in str(caught.value)
    assert "rollout/0 with 2 GPUs found no node" in str(caught.value)
    assert "Lower" in str(caught.value)


def test_one_actor_does_not_span_two_nodes() -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    place([Bundle("learner", 0, 1, 1), Bundle("rollout", 0, 1, 1)], nodes)
    with pytest.raises(PlacementError):
        place([Bundle("rollout", 0, 1, 2)], nodes)


def test_large_actors_are_placed_before_small_ones() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}]
    bundles = [Bundle("learner", 0, 1, 1), Bundle("rollout", 0, 1, 2)]
    assert place(bundles, nodes) == bundles
    with pytest.raises(PlacementError):
        place([*bundles, Bundle("learner", 1, 1, 1)], nodes)


def test_a_cluster_without_nodes_holds_no_gpu_actor() -> None:
    with pytest.raises(PlacementError, match="available: no node"):
        place([Bundle("rollout", 0, 1, 1)], [])


def test_rollouts_are_spread_and_learners_are_not() -> None:
    assert Bundle("rollout", 0, 1, 0).options["scheduling_strategy"] == "SPREAD"
    assert Bundle("learner", 0, 1, 0).options["scheduling_strategy"] == "DEFAULT"


def test_a_role_with_nodes_of_its_own_goes_nowhere_else() -> None:
    head, learners, spot = {"CPU": 8.0}, {"CPU": 8.0, "GPU": 4.0, "learner": 4.0}, {"CPU": 4.0}
    spot = {**spot, "GPU": 1.0, "rollout": 1.0}
    asked = [Bundle("learner", 0, 4, 4), Bundle("rollout", 0, 2, 1), Bundle("reward", 0, 1, 0)]
    placed = place(asked, [head, learners, spot])
    assert [b.options["resources"] for b in placed] == [
        {"learner": 0.0001},
        {"rollout": 0.0001},
        {},
    ]
    with pytest.raises(PlacementError, match="rollout/0 with 1 GPUs found no node"):
        place(asked, [head, {**learners, "GPU": 8.0}, {**spot, "GPU": 0.0}])
    # The node of the rollouts, which the rewards may use too, has 0.95 * 1 CPU for 3.
    assert place(asked, [head, learners, {**spot, "CPU": 1.0}])[1].cpus == 0.633


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
    assert fit_line(asked, [{"CPU": 8.0}]) == "5 actors fit on 1 nodes"
    line = fit_line(asked, [{"CPU": 2.0}, {"CPU": 2.0}])
    assert line == "5 actors fit on 2 nodes, each with 63% of the CPUs it asks for"
    with pytest.raises(PlacementError, match="3 GPUs asked for"):
        fit_line(config(rollout={"gpus": 2}), [{"CPU": 8.0}])
