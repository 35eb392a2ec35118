"""Cutting, layouts and balance, against brute force."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.learner.batching import MicroBatch, balance, collate, collate_policy, cut
from t2g_ray.model.packing import Segment
from t2g_ray.types import Sample


def sample(
    group: int, prompt: Sequence[int], completion: Sequence[int], advantage: float
) -> Sample:
    length = len(completion)
    return Sample(
        group=group,
        prompt_ids=tuple(prompt),
        completion_ids=np.array(completion, np.int32),
        sampler_logprobs=-np.arange(1, length + 1, dtype=np.float32),
        versions=np.zeros(length, np.int32),
        advantage=advantage,
    )


@st.composite
def batches(draw: st.DrawFn) -> list[Sample]:
    ids = st.integers(1, 9)
    samples: list[Sample] = []
    for group in range(draw(st.integers(1, 4))):
        prompt = draw(st.lists(ids, min_size=1, max_size=6))
        for completion in draw(
            st.lists(st.lists(ids, min_size=1, max_size=6), min_size=1, max_size=4)
        ):
            samples.append(sample(group, prompt, completion, draw(st.floats(-2, 2))))
    return samples


def histories(micro: MicroBatch) -> dict[int, tuple[int, ...]]:
    """What a causal model has read at each flat position: the real tokens up to it."""
    flat = micro.token_ids.flatten().tolist()
    seen: dict[int, tuple[int, ...]] = {}
    for segment in micro.segments:
        prefix = flat[segment.prefix_start :][: segment.prefix_length]
        for place in range(segment.start, segment.start + segment.length):
            seen[place] = (*prefix, *flat[segment.start : place + 1])
    return seen


@pytest.mark.parametrize("is_packed", [True, False])
@settings(deadline=None, max_examples=60)
@given(samples=batches())
def test_each_token_is_predicted_from_exactly_what_stands_before_it(
    is_packed: bool, samples: list[Sample]
) -> None:
    micro = collate_policy(samples, is_packed=is_packed)
    seen = histories(micro)
    found = [seen[i] for i in micro.predictor.tolist()]
    completions = [tuple(s.completion_ids.tolist()) for s in samples]
    pairs = [(s.prompt_ids, c) for s, c in zip(samples, completions, strict=True)]
    assert found == [prompt + c[:i] for prompt, c in pairs for i in range(len(c))]
    assert micro.targets.tolist() == [token for c in completions for token in c]
    assert micro.sample_of.tolist() == [i for i, c in enumerate(completions) for _ in c]
    advantages = [s.advantage for s, c in zip(samples, completions, strict=True) for _ in c]
    assert micro.advantages.tolist() == pytest.approx(advantages)
    logprobs = [value for s in samples for value in s.sampler_logprobs.tolist()]
    assert micro.sampler_logprobs.tolist() == logprobs


@pytest.mark.parametrize("is_packed", [True, False])
@settings(deadline=None, max_examples=60)
@given(samples=batches(), token_budget=st.integers(12, 80))
def test_every_sample_is_packed_once_within_the_budget(
    is_packed: bool, samples: list[Sample], token_budget: int
) -> None:
    parts = cut(samples, token_budget=token_budget, is_packed=is_packed)
    packed = [id(s) for part in parts for s in part]
    assert sorted(packed) == sorted(map(id, samples))
    for part in parts:
        micro = collate(part, is_packed=is_packed)
        assert micro.num_tokens <= micro.num_slots <= token_budget
        assert not is_packed or micro.num_tokens == micro.num_slots


@settings(deadline=None, max_examples=60)
@given(samples=batches())
def test_a_group_that_fits_is_never_torn_apart(samples: list[Sample]) -> None:
    parts = cut(samples, token_budget=36, is_packed=True)
    for group in {s.group for s in samples}:
        whole = [s for s in samples if s.group == group]
        if len(whole[0].prompt_ids) + sum(len(s.completion_ids) - 1 for s in whole) <= 36:
            assert sum(any(s.group == group for s in part) for part in parts) == 1


def test_a_group_larger_than_the_budget_is_cut_into_its_samples() -> None:
    samples = [sample(0, [1] * 6, [2] * 5, 1.0) for _ in range(4)]
    # The last token of a completion is not computed: a whole group takes 6 + 4 x 4 = 22.
    parts = cut(samples, token_budget=21, is_packed=True)
    assert [len(part) for part in parts] == [3, 1]


def test_packed_prompts_are_computed_once_and_without_padding() -> None:
    samples = [sample(0, [1] * 10, [2] * length, 1.0) for length in (3, 1, 5)]
    packed, joined = (collate(samples, is_packed=flag) for flag in (True, False))
    # The last token of each completion predicts nothing and is not computed.
    assert (packed.num_tokens, packed.num_slots) == (10 + 2 + 0 + 4, 16)
    assert (joined.num_tokens, joined.num_slots) == (12 + 10 + 14, 3 * 14)
    assert packed.token_ids.tolist() == [[1] * 10 + [2] * 6]


def test_a_completion_alone_with_its_prompt_is_one_segment() -> None:
    packed = collate([sample(0, [1, 2], [3, 4, 5], 1.0)], is_packed=True)
    assert packed.segments == (Segment(start=0, length=4),)
    assert packed.packing is not None
    assert packed.packing.padded.calls[0].mask is None


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_sample_that_cannot_fit_is_an_error_with_the_remedy(is_packed: bool) -> None:
    samples = [sample(0, [1] * 9, [2] * 9, 1.0)]
    with pytest.raises(ValueError, match=r"token_budget=16, found one of 17 tokens; raise"):
        cut(samples, token_budget=16, is_packed=is_packed)


def test_nothing_to_cut_gives_no_micro_batch() -> None:
    assert cut([], token_budget=16, is_packed=True) == []


@settings(deadline=None, max_examples=60)
@given(costs=st.lists(st.integers(1, 30), min_size=1, max_size=7), num_ranks=st.integers(1, 3))
def test_balance_is_complete_repeatable_and_within_four_thirds(
    costs: list[int], num_ranks: int
) -> None:
    ranks = balance(costs, num_ranks)
    assert ranks == balance(list(costs), num_ranks)
    assert sorted(p for rank in ranks for p in rank) == list(range(len(costs)))
    assert all(rank == sorted(rank) for rank in ranks)
    largest = max(sum(costs[p] for p in rank) for rank in ranks)
    best = min(
        max(
            sum(c for c, r in zip(costs, choice, strict=True) if r == rank)
            for rank in range(num_ranks)
        )
        for choice in product(range(num_ranks), repeat=len(costs))
    )
    assert largest <= best * (4 / 3 - 1 / (3 * num_ranks)) + 1e-9


def test_more_ranks_than_groups_leave_some_without_work() -> None:
    assert balance([5, 9], 3) == [[1], [0], []]


def test_a_micro_batch_on_the_cpu_stays_where_it_is() -> None:
    micro = collate([sample(0, [1], [2], 1.0)], is_packed=True)
    assert micro.to(torch.device("cpu")) is micro


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("versions", [(3, 3, 3), (2, 3, 3), (2, 2, 3), (1, 2, 3), (3, 3, 4)])
def test_all_tokens_of_a_completion_have_the_version_that_began_it(
    versions: tuple[int, ...], is_packed: bool
) -> None:
    one = dataclasses.replace(
        sample(0, [1, 2], [3, 4, 5], 1.0), versions=np.array(versions, np.int32)
    )
    micro = collate_policy([one, sample(0, [1, 2], [6, 7], 0.5)], is_packed=is_packed)
    assert micro.first_versions.tolist() == [versions[0]] * 3 + [0] * 2
