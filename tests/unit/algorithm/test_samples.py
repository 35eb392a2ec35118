"""Groups and advantages -> samples: nothing changed on the way, masked completions left out."""

from __future__ import annotations

import numpy as np
import pytest

from t2g_ray.algorithm.samples import to_samples
from t2g_ray.types import Completion, Group, Prompt, Reward, ScoredGroup


def reward(total: float) -> Reward:
    return Reward(
        total=total,
        parts={"json": total},
        tag="score",
        parse="ok",
        entities=(0, 0, 0),
        relations=(0, 0, 0),
        near=(0.0, 0.0),
    )


def scored(index: int, lengths: list[int]) -> ScoredGroup:
    completions = tuple(
        Completion(
            token_ids=np.arange(n, dtype=np.int32) + 10 * index,
            logprobs=-np.arange(n, dtype=np.float32),
            versions=np.full(n, index, np.int32),
            finish_reason="stop",
        )
        for n in lengths
    )
    prompt = Prompt(index=index, token_ids=(1, index))
    return ScoredGroup(
        group=Group(prompt=prompt, completions=completions, sampler=0, generate_s=0.1),
        rewards=tuple(reward(1.0) for _ in lengths),
        texts=("",) * len(lengths),
    )


def test_ids_logprobs_and_versions_pass_through_unchanged() -> None:
    group = scored(3, [2, 4])
    first, second = to_samples([group], [[0.5, -0.5]])
    assert (first.group, first.prompt_ids, first.advantage) == (3, (1, 3), 0.5)
    assert second.advantage == -0.5
    # The very arrays: no copy, no second tokenisation.
    completion = group.group.completions[1]
    assert second.completion_ids is completion.token_ids
    assert second.sampler_logprobs is completion.logprobs
    assert second.versions is completion.versions


def test_a_masked_completion_gives_no_sample() -> None:
    samples = to_samples([scored(0, [1, 2, 3]), scored(1, [4])], [[0.5, None, -0.5], [0.0]])
    assert [(s.group, len(s.completion_ids)) for s in samples] == [(0, 1), (0, 3), (1, 4)]


def test_advantages_must_match_the_completions_one_to_one() -> None:
    with pytest.raises(ValueError, match="zip"):
        to_samples([scored(0, [1, 2])], [[0.5]])
