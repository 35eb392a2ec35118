"""What is tried where a run does not fit, and which change is told."""

from __future__ import annotations

from typing import Any

from t2g_ray.config import GrpoConfig, StageConfig, build_config
from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.memory.changes import candidates, smallest_change
from t2g_ray.planning.memory.places import plan_memory
from t2g_ray.planning.parts import Change, Seat
from t2g_ray.planning.shapes import PUBLISHED

SEVEN_B = PUBLISHED["Qwen/Qwen2.5-7B"]


def config_of(**tree: Any) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "x", "device": "cuda", **tree})


def seats_of(config: StageConfig) -> list[Seat]:
    assert isinstance(config, GrpoConfig)
    ranks, engines = config.learner.ranks, config.rollout.actors
    each = int(config.rollout.gpus)
    if ranks + engines * each > 4:
        raise ValueError("four devices")
    learners = [Seat(f"learner/{i}", 0, (i,)) for i in range(ranks)]
    starts = range(ranks, ranks + engines * each, each)
    engine_devices = [tuple(range(start, start + each)) for start in starts]
    return learners + [Seat(f"rollout/{i}", 0, d) for i, d in enumerate(engine_devices)]


def change_of(config: GrpoConfig, nodes: str) -> Change | None:
    return smallest_change(config, SEVEN_B, seats_of, read_nodes(nodes, "--nodes"))


def test_one_setting_is_changed_where_one_is_enough() -> None:
    learner = {"ranks": 2, "zero_stage": 2, "token_budget": 4096}
    change = change_of(config_of(learner=learner), "1 x 4 x 85GiB")
    assert change is not None
    assert change.settings == {"learner.zero_stage": 3}


def test_with_the_change_everything_fits_and_its_places_say_so() -> None:
    config = config_of(learner={"ranks": 2, "token_budget": 131_072})
    cluster = read_nodes("1 x 4 x 90GiB", "--nodes")
    assert plan_memory(config, SEVEN_B, seats_of(config), cluster).short is not None
    change = change_of(config, "1 x 4 x 90GiB")
    assert change is not None
    assert len(change.settings) > 1
    assert all(place.fits for place in change.places)
    assert "learner.lora.rank" not in change.settings


def test_an_engine_that_does_not_fit_is_spread_over_devices_that_are_free() -> None:
    change = change_of(config_of(learner={"lora": {"rank": 8}}), "1 x 4 x 18GiB")
    assert change is not None
    assert change.settings["rollout.tensor_parallel"] == change.settings["rollout.gpus"] == 2


def test_where_nothing_of_the_list_is_enough_there_is_no_change() -> None:
    assert change_of(config_of(), "1 x 4 x 6GiB") is None


def test_adapters_change_what_is_learned_and_are_tried_last() -> None:
    tried = list(candidates(config_of(learner={"ranks": 2})))
    with_adapters = ["learner.lora.rank" in settings for settings in tried]
    assert with_adapters == sorted(with_adapters)
    assert True in with_adapters


def test_no_budget_below_the_longest_sample_is_tried() -> None:
    tree = {"prompt": {"max_tokens": 1000}, "sampling": {"max_new_tokens": 500}}
    budgets = {one.get("learner.token_budget", 1499) for one in candidates(config_of(**tree))}
    assert budgets == {1499, 2048, 4096}
