"""Summaries of groups that several tests of a step build on."""

from __future__ import annotations

import dataclasses

from t2g_ray.graph.counts import GraphCounts
from tests.unit.parts import group_summary


def counts(*row: int) -> GraphCounts:
    return GraphCounts.from_row(row or (0,) * 6)


A = group_summary(
    version=4,
    lengths=(10, 20),
    prompt_tokens=7,
    is_truncated=(False, True),
    counts=(counts(2, 0, 0, 0, 1, 0), counts(0, 0, 1, 0, 0, 1)),
    has_graph=(True, False),
    generate_s=0.5,
)
# Equal rewards: no signal.
B = dataclasses.replace(
    A,
    index=1,
    rewards=(1.0, 1.0),
    lengths=(5, 5),
    has_graph=(True, True),
    parts={"json": 1.0},
    min_version=3,
    tokens_by_version={3: 10},
)
# One of three completions was not graded; two versions behind.
C = dataclasses.replace(
    A,
    index=2,
    rewards=(2.0, 0.0, 0.0),
    is_valid=(True, False, True),
    lengths=(4, 40, 6),
    is_truncated=(False,) * 3,
    parts={"json": 0.25},
    counts=(counts(0, 0, 3, 0, 1, 1), counts(9, 9, 9, 9, 9, 9), counts()),
    near=((0.0, 0.0),) * 3,
    has_graph=(True, True, False),
    min_version=2,
    tokens_by_version={2: 6, 3: 4},
)
# Too few graded completions to compare.
D = dataclasses.replace(
    A,
    index=3,
    is_valid=(True, False),
    lengths=(3, 3),
    is_truncated=(False, False),
    has_graph=(False, False),
    parts={"json": 0.0},
)
