"""Guessed tokens in a real vLLM engine: the same probabilities, fewer passes of the model.

Inside the engine this is `vllm_drafting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedModel

from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rollout.engine import CHECK_BYTES, GenerationEngine
from t2g_ray.rollout.spec import Sampling
from t2g_ray.types import Group, Prompt
from tests.integration.parts import (
    ANSWER,
    differences,
    disturb,
    generate,
    make_wavering_policy,
    pack,
    prompts_of,
    spec_of,
)

SAMPLING = Sampling(group_size=8, temperature=1.0, max_new_tokens=40)


@pytest.fixture(scope="module")
def policy() -> PreTrainedModel:
    return make_wavering_policy()


@pytest.fixture(scope="module")
def engine(tied_model: Path, policy: PreTrainedModel) -> Iterator[GenerationEngine]:
    started = GenerationEngine(replace(spec_of(tied_model), draft_tokens=8))
    started.load(*pack(policy, 0), verify=True)
    yield started
    started.close()


def guessed(prompts: Sequence[Prompt]) -> list[Prompt]:
    """With the answer that the policy wavers about as the likely one."""
    tokenizer = build_tokenizer()
    likely = (*tokenizer.encode(ANSWER, add_special_tokens=False), tokenizer.eos_token_id)
    return [replace(prompt, likely_ids=likely) for prompt in prompts]


def lengths(groups: Sequence[Group]) -> list[int]:
    return [len(one.token_ids) for group in groups for one in group.completions]


def test_logprobs_of_guessed_tokens_agree_with_transformers(
    engine: GenerationEngine, policy: PreTrainedModel
) -> None:
    groups = generate(engine, guessed(prompts_of(8, 40)), SAMPLING)
    found = differences(policy, groups, SAMPLING.temperature)
    assert len(found) > 200
    assert found.mean() < 1e-5
    assert found.max() < 1e-3


def test_right_guesses_save_passes_of_the_model(engine: GenerationEngine) -> None:
    certain = replace(SAMPLING, temperature=0.01, ignore_eos=True)

    def write(prompt: Prompt) -> tuple[list[int], int]:
        engine.add(prompt, certain)
        groups: list[Group] = []
        num_passes = 0
        while not groups:
            groups = engine.step()
            num_passes += 1
        return groups[0].completions[0].token_ids.tolist(), num_passes

    (prompt,) = prompts_of(1, 40, seed=3)
    token_ids, num_passes = write(prompt)
    assert (len(token_ids), num_passes) == (40, 40)
    # One token with the prompt, then eight guessed and one more a pass.
    assert write(replace(prompt, likely_ids=tuple(token_ids))) == (token_ids, 6)


def test_a_vocabulary_too_large_for_the_memory_of_guesses_leaves_none(
    engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = guessed(prompts_of(2, 40, seed=6))
    before = engine.num_generated_tokens, engine.num_passes
    monkeypatch.setattr(engine, "_max_checked", 1)  # the token that is written anyway
    generate(engine, prompts, SAMPLING)
    written, passes = engine.num_generated_tokens - before[0], engine.num_passes - before[1]
    assert written == passes
    monkeypatch.undo()
    assert engine._max_checked == CHECK_BYTES // (8 * len(build_tokenizer()))


def test_guesses_leave_the_distribution_as_it_is(engine: GenerationEngine) -> None:
    prompts = prompts_of(64, 24, seed=1)
    for_all = [lengths(generate(engine, p, SAMPLING)) for p in (prompts, guessed(prompts))]
    plain, with_guesses = map(np.asarray, for_all)
    error = np.sqrt((plain.var() + with_guesses.var()) / len(plain))
    assert abs(plain.mean() - with_guesses.mean()) < 4 * error
    top = np.bincount(plain).argmax()
    shares = np.mean(plain == top), np.mean(with_guesses == top)
    assert 0.02 < shares[0] < 0.98
    assert abs(shares[0] - shares[1]) < 4 * np.sqrt(0.5 / len(plain))


def test_the_same_seed_version_and_guesses_give_the_same_tokens(engine: GenerationEngine) -> None:
    def tokens() -> list[list[int]]:
        groups = generate(engine, guessed(prompts_of(4, 40, seed=2)), SAMPLING)
        return [one.token_ids.tolist() for group in groups for one in group.completions]

    assert tokens() == tokens()


def test_a_prompt_that_is_cached_but_for_its_last_token_is_written_alike(
    engine: GenerationEngine, policy: PreTrainedModel
) -> None:
    # vLLM then holds places for guesses open that nobody made.
    prompts = guessed(prompts_of(3, 33, seed=4))
    generate(engine, prompts, SAMPLING)
    again = generate(engine, prompts, SAMPLING)
    assert differences(policy, again, SAMPLING.temperature).max() < 1e-3


def test_weights_that_change_between_guesses_stamp_the_later_tokens(
    engine: GenerationEngine, policy: PreTrainedModel
) -> None:
    sampling = replace(SAMPLING, ignore_eos=True)
    (prompt,) = guessed(prompts_of(1, 40, seed=5))
    engine.add(prompt, sampling)
    for _ in range(2):
        assert engine.step() == []
    other = disturb(make_wavering_policy(), seed=9, scale=0.02)
    engine.load(*pack(other, 1), verify=True)
    groups: list[Group] = []
    while engine.is_busy:
        groups += engine.step()
    engine.load(*pack(policy, 0), verify=True)
    for completion in groups[0].completions:
        versions = completion.versions
        assert versions[0] == 0 and versions[-1] == 1
        assert (np.diff(versions) >= 0).all()
    by_old, by_new = (differences(p, groups, 1.0) for p in (policy, other))
    versions = np.concatenate([one.versions for one in groups[0].completions])
    assert by_old[versions == 0].max() < 1e-3
    # Later tokens read what the older weights left in the cache: near to the new, far from the old.
    assert np.median(by_new[versions == 1]) < np.median(by_old[versions == 1])


def test_a_group_is_written_alike_whatever_is_guessed_beside_it(engine: GenerationEngine) -> None:
    def tokens(prompts: Sequence[Prompt]) -> list[list[int]]:
        groups = generate(engine, prompts, SAMPLING)
        return [one.token_ids.tolist() for group in groups for one in group.completions]

    prompts = guessed(prompts_of(4, 40, seed=8))
    alone = [ids for prompt in prompts for ids in tokens([prompt])]
    same = sum(a == b for a, b in zip(alone, tokens(prompts), strict=True))
    # Another batch rounds in other places, so that a rare token may differ.
    assert same >= len(alone) - 1
