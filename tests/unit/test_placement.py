"""Configuration and nodes -> reservations; what cannot fit is refused with numbers."""

from __future__ import annotations

import pytest

from actors.placement import Bundle, PlacementError, bundles_of, place, plan_table
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
    asked = [Bundle("rollout", i, 2, 0) for i in range(4)]
    assert place(asked, [{"CPU": 5.0}, {"CPU": 5.0}]) == asked


def test_gpus_that_do_not_exist_are_refused_with_requested_and_available() -> None:
    with pytest.raises(PlacementError) as caught:
        place(bundles_of(config(rollout={"actors": 2, "gpus": 2})), [{"CPU": 8.0}, {"CPU": 8.0}])
    assert "4 GPUs asked for" in str(caught.value)
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


def test_the_plan_shows_derived_sizes() -> None:
    table = plan_table(config(steps=10, prompts_per_step=4, group_size=3, max_staleness=1))
    assert "4 prompts x 3 completions = 12 samples a step, 10 steps, 120 completions" in table
    assert "at most 8 groups exist at a time" in table
    assert "rollout/0: 1 CPU, 0 GPU" in table


def test_the_plan_of_the_supervised_stage_names_its_ranks() -> None:
    sft = build_config(SftConfig, {"run_dir": "runs/x", "learner": {"ranks": 3}})
    assert "3 learner ranks" in plan_table(sft)
