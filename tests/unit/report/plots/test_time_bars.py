"""The picture of a plan's time."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.parts import Seat
from t2g_ray.planning.plan import make_plan
from t2g_ray.report.plots.plan_bars import draw_plan
from t2g_ray.report.plots.time_bars import draw_time
from tests.unit.planning.parts import QWEN_7B, grpo, plan

SEATS = (Seat("learner/0", 0, (0,)), Seat("rollout/0", 0, (1,)))


def test_bars_are_as_long_as_their_seconds_and_end_where_it_is_said() -> None:
    speed = plan(learner={"ranks": 2}, eval={"every": 10})
    drawn, bottom = draw_time(speed, top=100, left=20, width=900)
    bars = re.findall(r'width="([\d.]+)" height="22" fill="[^"]*"><title>([^:]*):', drawn)
    assert [name for _, name in bars] == [
        part.name
        for side in ("rollout", "reward", "learner", "sync")
        for part in speed.parts
        if part.side == side
    ]
    widths = {name: float(width) for width, name in bars}
    assert widths["backward"] == pytest.approx(2 * widths["forward"], abs=0.2)
    learner = sum(float(width) for width, name in bars if name in ("forward", "backward"))
    assert learner <= 900
    assert bottom == 100 + 34 + 4 * 44


def test_the_picture_of_a_plan_shows_its_time_below_its_memory() -> None:
    cluster = read_nodes("1 x 2 x H100", "--nodes")
    memory = make_plan(grpo(), "x", QWEN_7B, lambda _: SEATS, cluster)
    timed = draw_plan(replace(memory, speed=plan()))
    ElementTree.fromstring(timed)
    assert "time of a step" in timed and "time of a step" not in draw_plan(memory)
