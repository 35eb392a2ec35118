"""The stages are values: complete when made, closed to change, and the same after a journey."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from t2g_ray.types import (
    Completion,
    Example,
    Group,
    GroupSummary,
    Prompt,
    Record,
    Reward,
    Sample,
    ScoredGroup,
    StepReport,
    SyncReport,
    TrainReport,
)
from tests.unit.parts import group_summary

PROMPT = Prompt(index=17, token_ids=(1, 52, 9))


STAGES = [Record, Prompt, Completion, Group, Reward, ScoredGroup, GroupSummary, Sample, Example]
REPORTS = [TrainReport, SyncReport, StepReport]


def completion() -> Completion:
    return Completion(
        token_ids=np.array([5, 9, 2], np.int32),
        logprobs=np.array([-0.1, -0.7, 0.0], np.float32),
        versions=np.array([3, 3, 4], np.int32),
        finish_reason="stop",
    )


def summary(lengths: tuple[int, ...]) -> GroupSummary:
    return group_summary(17, (1.5, 0.2), lengths=lengths, version=3)


def test_the_generated_tokens_of_a_group_are_the_sum_of_its_lengths() -> None:
    assert summary((3, 39)).generated_tokens == 42


def test_no_stage_can_be_changed_after_it_was_made() -> None:
    group = Group(prompt=PROMPT, completions=(completion(),), sampler=0, generate_s=0.4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.sampler = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        summary((3, 39)).min_version = 9  # type: ignore[misc]


@pytest.mark.parametrize("stage", [*STAGES, *REPORTS])
def test_no_stage_waits_for_a_value_that_comes_later(stage: type) -> None:
    optional = [
        field.name
        for field in dataclasses.fields(stage)
        if field.default is not dataclasses.MISSING
        or field.default_factory is not dataclasses.MISSING
    ]
    # A row of data may have no further keys, a prompt no likely answer, and most prompts are
    # trained on; everything else is given when a stage is made.
    assert optional == {Record: ["extra"], Prompt: ["likely_ids", "purpose"]}.get(stage, [])


def test_a_group_travels_between_processes_unchanged() -> None:
    group = Group(prompt=PROMPT, completions=(completion(),), sampler=1, generate_s=0.4)
    arrived = pickle.loads(pickle.dumps(group))
    assert arrived.prompt == PROMPT
    (before,), (after,) = group.completions, arrived.completions
    for name in ("token_ids", "logprobs", "versions"):
        assert getattr(after, name).dtype == getattr(before, name).dtype
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert after.finish_reason == "stop"
