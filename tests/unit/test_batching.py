"""Cutting, layouts and balance, against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.batching import MicroBatch, balance, collate, cut
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


def histories(micro: MicroBatch) -> list[tuple[int, ...]]:
    """What a causal model has read at each flat position: the real tokens up to it."""
    seen: list[tuple[int, ...]] = []
    for row in micro.prompt_ids.tolist():
        seen += [tuple(row[: i + 1]) for i in range(len(row))]
    for number, row in enumerate(micro.completion_ids.tolist()):
        before: tuple[int, ...] = ()
        if micro.is_shared:
            unit = int(micro.prompt_of[number])
            length = int(micro.prompt_lengths[unit])
            before = tuple(micro.prompt_ids[unit, :length].tolist())
        seen += [before + tuple(row[: i + 1]) for i in range(len(row))]
    return seen


@pytest.mark.parametrize("is_shared", [True, False])
@settings(deadline=None, max_examples=60)
@given(samples=batches())
def test_each_token_is_predicted_from_exactly_what_stands_before_it(
    is_shared: bool, samples: list[Sample]
) -> None:
    micro = collate(samples, is_shared=is_shared)
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


@pytest.mark.parametrize("is_shared", [True, False])
@settings(deadline=None, max_examples=60)
@given(samples=batches(), token_budget=st.integers(12, 80))
def test_every_sample_is_packed_once_within_the_budget(
    is_shared: bool, samples: list[Sample], token_budget: int
) -> None:
    parts = cut(samples, token_budget=token_budget, is_shared=is_shared)
    packed = [id(s) for part in parts for s in part]
    assert sorted(packed) == sorted(map(id, samples))
    for part in parts:
        assert collate(part, is_shared=is_shared).num_slots <= token_budget


@settings(deadline=None, max_examples=60)
@given(samples=batches())
def test_a_group_that_fits_is_never_torn_apart(samples: list[Sample]) -> None:
    parts = cut(samples, token_budget=36, is_shared=True)
    for group in {s.group for s in samples}:
        whole = [s for s in samples if s.group == group]
        longest = max(len(s.completion_ids) for s in whole)
        if len(whole[0].prompt_ids) + len(whole) * longest <= 36:
            assert sum(any(s.group == group for s in part) for part in parts) == 1


def test_a_group_larger_than_the_budget_is_cut_into_its_samples() -> None:
    samples = [sample(0, [1] * 6, [2] * 5, 1.0) for _ in range(4)]
    # A whole group takes 6 + 4 x 5 = 26; three samples take 21.
    parts = cut(samples, token_budget=21, is_shared=True)
    assert [len(part) for part in parts] == [3, 1]


def test_shared_prompts_are_computed_once() -> None:
    samples = [sample(0, [1] * 10, [2] * 3, 1.0) for _ in range(4)]
    shared, joined = (collate(samples, is_shared=flag) for flag in (True, False))
    # The last token of each completion predicts nothing and is not computed.
    assert (shared.num_tokens, shared.num_slots) == (10 + 4 * 3, 10 + 4 * 2)
    assert (joined.num_tokens, joined.num_slots) == (4 * 13, 4 * 13)


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_sample_that_cannot_fit_is_an_error_with_the_remedy(is_shared: bool) -> None:
    samples = [sample(0, [1] * 9, [2] * 8, 1.0)]
    with pytest.raises(ValueError, match=r"token_budget=16, found one of 17 tokens; raise"):
        cut(samples, token_budget=16, is_shared=is_shared)


def test_nothing_to_cut_gives_no_micro_batch() -> None:
    assert cut([], token_budget=16, is_shared=True) == []


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
    micro = collate([sample(0, [1], [2], 1.0)], is_shared=True)
    assert micro.to(torch.device("cpu")) is micro
