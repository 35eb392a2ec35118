"""Summaries of groups that several tests of a step build on."""

from __future__ import annotations

import dataclasses

from tests.unit.parts import group_summary

A = group_summary(
    version=4,
    lengths=(10, 20),
    prompt_tokens=7,
    is_truncated=(False, True),
    entities=(2, 0, 1),
    relations=(0, 1, 1),
    generate_s=0.5,
)
# Equal rewards: no signal.
B = dataclasses.replace(
    A,
    index=1,
    rewards=(1.0, 1.0),
    f1=(1.0, 1.0),
    lengths=(5, 5),
    num_parsed=2,
    parts={"json": 1.0},
    min_version=3,
    tokens_by_version={3: 10},
)
# One of three completions was not graded; two versions behind.
C = dataclasses.replace(
    A,
    index=2,
    rewards=(2.0, 0.0, 0.0),
    f1=(1.0, 0.0, 0.0),
    is_valid=(True, False, True),
    lengths=(4, 40, 6),
    is_truncated=(False,) * 3,
    parts={"json": 0.25},
    entities=(0, 0, 3),
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
    num_parsed=0,
    parts={"json": 0.0},
)
