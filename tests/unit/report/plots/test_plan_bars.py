"""The picture of a plan."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.parts import Seat
from t2g_ray.planning.plan import Plan, make_plan
from t2g_ray.planning.shapes import PUBLISHED
from t2g_ray.report.plots.plan_bars import SIZE, TOO_SMALL, draw_plan

SEATS = (Seat("learner/0", 0, (0,)), Seat("rollout/0", 0, (1,)))


def planned(nodes: str) -> Plan:
    config = build_config(GrpoConfig, {"run_dir": "x", "device": "cuda"})
    model = "Qwen/Qwen2.5-0.5B"
    cluster = read_nodes(nodes, "--nodes")
    return make_plan(config, model, PUBLISHED[model], lambda _: SEATS, cluster)


def test_the_picture_is_xml_with_a_bar_for_each_part_and_a_mark_for_each_device() -> None:
    plan = planned("1 x 2 x L40S")
    picture = draw_plan(plan)
    ElementTree.fromstring(picture)
    assert picture.count("<title>") == sum(len(place.parts) for place in plan.memory.places)
    assert picture.count(f'stroke="{SIZE}"') == 2
    assert picture == draw_plan(plan)


def test_bars_are_as_long_as_their_bytes() -> None:
    picture = draw_plan(planned("1 x 2 x L40S"))
    bars = re.findall(
        r'width="([\d.]+)" height="24" fill="[^"]*"><title>[^<]*: ([\d.]+) GiB', picture
    )
    # Both cards have 44.4 GiB, and no machine here has a size.
    of_cards = [float(width) / float(size) for width, size in bars if float(size) > 1][:5]
    assert of_cards == pytest.approx([920 / 44.4] * 5, rel=0.01)


def test_what_is_hardly_used_is_left_out() -> None:
    picture = draw_plan(planned("1 x 2 x L40S with 64 cpus and 4096 GiB"))
    assert "object store" not in picture
    assert "GPU 0 of learner/0" in picture


def test_what_does_not_fit_is_marked() -> None:
    assert f'stroke="{TOO_SMALL}"' in draw_plan(planned("1 x 2 x 6GiB"))
