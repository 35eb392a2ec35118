"""One plan of memory, and as JSON."""

from __future__ import annotations

import json

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.parts import Seat
from t2g_ray.planning.plan import Plan, make_plan
from t2g_ray.planning.shapes import PUBLISHED

SEATS = (Seat("learner/0", 0, (0,)), Seat("rollout/0", 0, (1,)))


def planned(nodes: str) -> Plan:
    config = build_config(GrpoConfig, {"run_dir": "x", "device": "cuda"})
    name = "Qwen/Qwen2.5-0.5B"
    cluster = read_nodes(nodes, "--nodes")
    return make_plan(config, name, PUBLISHED[name], lambda _: SEATS, cluster)


def test_a_plan_that_fits_has_no_change_and_is_plain_values_in_json() -> None:
    plan = planned("1 x 2 x L40S")
    assert plan.fits
    assert plan.change is None
    written = json.loads(json.dumps(plan.as_json()))
    assert written["fits"] is True
    assert written["parameters"] == plan.shape.parameters
    assert plan.memory.room is not None
    assert written["kv_cache"]["sequences"] == plan.memory.room.sequences
    assert [place["used"] for place in written["places"]] == [p.used for p in plan.memory.places]


def test_a_plan_that_does_not_fit_says_with_which_settings_it_would() -> None:
    plan = planned("1 x 2 x 11GiB")
    assert not plan.fits
    assert plan.change is not None
    assert plan.as_json()["change"] == plan.change.settings
