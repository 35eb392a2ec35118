"""The tables of a plan, and what is said where it does not fit."""

from __future__ import annotations

import pytest

from t2g_ray.cli.machine.plan_table import print_plan, refusal, room_line, shown
from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.parts import Seat
from t2g_ray.planning.plan import Plan, make_plan
from t2g_ray.planning.shapes import PUBLISHED

SEATS = (Seat("learner/0", 0, (0,)), Seat("rollout/0", 0, (1,)))


def planned(nodes: str, model: str = "Qwen/Qwen2.5-0.5B") -> Plan:
    config = build_config(GrpoConfig, {"run_dir": "x", "device": "cuda"})
    cluster = read_nodes(nodes, "--nodes")
    return make_plan(config, model, PUBLISHED[model], lambda _: SEATS, cluster)


def test_every_part_and_every_sum_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned("1 x 2 x L40S")
    print_plan(plan)
    out = " ".join(capsys.readouterr().out.split())
    assert "learner: moments" in out
    assert "in use, of 44.40 GiB" in out
    assert room_line(plan) in out


def test_a_refusal_names_the_place_what_it_needs_and_what_to_change() -> None:
    said = refusal(planned("1 x 2 x 11GiB"))
    assert said.startswith("what a run holds must fit: machine 0 (2 x 11GiB), GPU 0 needs ")
    assert "found 11.00 GiB; the smallest change with which all fits: learner." in said


def test_where_no_change_is_enough_it_says_what_is_left_to_do() -> None:
    said = refusal(planned("1 x 2 x 3GiB", "Qwen/Qwen2.5-32B"))
    assert "none of the changes that were tried is enough" in said
    assert "larger machines" in said


def test_small_sizes_are_shown_in_smaller_units() -> None:
    assert [shown(size) for size in (3 * 2**30, 3 * 2**20)] == ["3.00 GiB", "3.0 MiB"]
