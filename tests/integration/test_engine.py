"""A real vLLM engine on tiny policies: parity, versions, caches, seeds and other architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from t2g_ray.graph.constrained import graph_grammar
from t2g_ray.graph.parsing import Parsed, parse_completion
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import Sampling
from t2g_ray.types import Prompt
from t2g_ray.weights.manifest import WeightSyncError
from tests.integration.parts import (
    differences,
    disturb,
    generate,
    make_policy,
    make_wavering_policy,
    pack,
    prompts_of,
    spec_of,
    write_policy,
)

SAMPLING = Sampling(group_size=4, temperature=1.0, max_new_tokens=24)


@pytest.fixture(scope="module")
def engine(tied_model: Path) -> Iterator[GenerationEngine]:
    started = GenerationEngine(
        spec_of(
            tied_model,
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        )
    )
    yield started
    started.close()


@pytest.fixture
def loaded(engine: GenerationEngine) -> GenerationEngine:
    """The engine with the weights of `make_policy("tied")` as version 0."""
    engine.load(*pack(make_policy("tied"), 0), verify=True)
    return engine


def test_an_engine_starts_from_random_weights_and_says_so(engine: GenerationEngine) -> None:
    manifest, _ = pack(make_policy("tied"), 0)
    with pytest.raises(WeightSyncError, match=r"tensor model\.\S+"):
        engine.verify(manifest)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
def test_logprobs_agree_with_transformers(loaded: GenerationEngine, temperature: float) -> None:
    sampling = Sampling(group_size=4, temperature=temperature, max_new_tokens=24)
    groups = generate(loaded, prompts_of(6, 40), sampling)
    found = differences(make_policy("tied"), groups, temperature)
    assert len(found) > 200
    assert found.mean() < 1e-5
    assert found.max() < 1e-3


def test_weights_that_change_under_a_running_group_stamp_its_later_tokens(
    loaded: GenerationEngine,
) -> None:
    first = make_policy("tied")
    endless = Sampling(group_size=2, temperature=1.0, max_new_tokens=20, ignore_eos=True)
    loaded.add(prompts_of(1, 40)[0], endless)
    for _ in range(7):
        assert loaded.step() == []
    loaded.load(*pack(disturb(make_policy("tied"), seed=5, scale=0.1), 1), verify=True)
    groups = []
    while loaded.is_busy:
        groups += loaded.step()
    for completion in groups[0].completions:
        versions = completion.versions.tolist()
        assert versions == [0] * versions.count(0) + [1] * versions.count(1)
        # A step may write its token one step later where the engine works ahead.
        assert 5 <= versions.count(0) <= 7
    is_old = np.concatenate([c.versions == 0 for c in groups[0].completions])
    against_first = differences(first, groups, 1.0)
    assert against_first[is_old].max() < 1e-3
    assert against_first[~is_old].mean() > 1e-2


def repeat_after_new_weights(engine: GenerationEngine) -> float:
    """Mean difference to a fresh computation for a prompt that the old version has read."""
    prompt = prompts_of(1, 300, seed=3)
    generate(engine, prompt, SAMPLING)
    generate(engine, prompt, SAMPLING)
    changed = disturb(make_policy("tied"), seed=6, scale=0.1)
    engine.load(*pack(changed, 1), verify=True)
    return float(differences(changed, generate(engine, prompt, SAMPLING), 1.0).mean())


def test_a_prefix_cached_under_old_weights_is_not_read_again(loaded: GenerationEngine) -> None:
    assert repeat_after_new_weights(loaded) < 1e-5


def test_without_the_version_in_its_key_an_old_prefix_would_be_read(
    loaded: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_request = loaded._engine.add_request

    def unsalted(name: str, prompt: dict[str, Any], parameters: Any) -> Any:
        return add_request(name, {**prompt, "cache_salt": "one for all"}, parameters)

    monkeypatch.setattr(loaded._engine, "add_request", unsalted)
    assert repeat_after_new_weights(loaded) > 1e-2


def test_a_completion_that_waited_for_its_turn_reads_no_prefix_of_older_weights(
    loaded: GenerationEngine,
) -> None:
    size = loaded.spec.max_sequences + 2
    sampling = Sampling(group_size=size, temperature=1.0, max_new_tokens=4, ignore_eos=True)
    loaded.add(prompts_of(1, 100)[0], sampling)
    loaded.step()
    changed = disturb(make_policy("tied"), seed=6, scale=0.1)
    loaded.load(*pack(changed, 1), verify=True)
    groups = []
    while loaded.is_busy:
        groups += loaded.step()
    waited = [c for c in groups[0].completions if (c.versions == 1).all()]
    assert len(waited) == 2
    found = differences(changed, [replace(groups[0], completions=tuple(waited))], 1.0)
    assert found.mean() < 1e-5


def tokens_of(engine: GenerationEngine, prompts: Sequence[Prompt]) -> list[list[int]]:
    groups = generate(engine, prompts, SAMPLING)
    return [one.token_ids.tolist() for group in groups for one in group.completions]


def test_the_same_seed_version_and_prompts_give_the_same_tokens(loaded: GenerationEngine) -> None:
    prompts = prompts_of(3, 30)
    first = tokens_of(loaded, prompts)
    torch.manual_seed(99)
    assert tokens_of(loaded, prompts) == first
    # Members of one group are different samples.
    assert len({tuple(ids) for ids in first}) > len(first) // 2
    loaded.load(*pack(make_policy("tied"), 1), verify=False)
    assert tokens_of(loaded, prompts) != first


def test_engines_with_the_same_weights_and_prompts_write_different_completions(
    loaded: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = prompts_of(3, 30)
    first = tokens_of(loaded, prompts)
    monkeypatch.setattr(loaded, "spec", replace(loaded.spec, sampler=1))
    second = tokens_of(loaded, prompts)
    assert not {tuple(ids) for ids in first} & {tuple(ids) for ids in second}
    assert tokens_of(loaded, prompts) == second


def test_what_is_written_beside_a_group_changes_nothing_in_it(loaded: GenerationEngine) -> None:
    prompts = prompts_of(5, 30, seed=7)
    together = tokens_of(loaded, prompts)
    alone = [ids for prompt in prompts for ids in tokens_of(loaded, [prompt])]
    same = sum(a == b for a, b in zip(alone, together, strict=True))
    # Another batch rounds in other places, so that a rare token may differ.
    assert same >= len(together) - 1


def test_constrained_completions_are_graphs_where_free_ones_are_not(
    engine: GenerationEngine,
) -> None:
    engine.load(*pack(make_wavering_policy(), 0), verify=True)
    tokenizer = build_tokenizer()

    def graphs(grammar: str | None) -> list[object]:
        sampling = Sampling(group_size=32, temperature=1.5, max_new_tokens=120, grammar=grammar)
        (group,) = generate(engine, prompts_of(1, 40), sampling)
        whole = [c.token_ids.tolist() for c in group.completions if c.finish_reason == "stop"]
        texts = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in whole]
        return [parse_completion(text) for text in texts]

    free, held = graphs(None), graphs(graph_grammar(("city",), ("knows",)))
    assert any(not isinstance(outcome, Parsed) for outcome in free)
    found = [outcome.graph for outcome in held if isinstance(outcome, Parsed)]
    assert len(found) == len(held) > 8
    # The policy learned to write another type, which the schema does not have.
    assert {entity.type for graph in found for entity in graph.entities} == {"city"}


def test_aborted_groups_leave_an_engine_that_works(loaded: GenerationEngine) -> None:
    for prompt in prompts_of(3, 20):
        loaded.add(prompt, SAMPLING)
    for _ in range(3):
        loaded.step()
    lengths = loaded.abort(["train 0", "train 2", "train 9"])
    assert lengths.keys() == {"train 0", "train 2"}
    # Where the engine works ahead, a token may be on its way.
    assert all(2 <= length <= 3 for group in lengths.values() for length in group)
    assert loaded.open_prompts == ["train 1"]
    loaded.abort(["train 1"])
    assert not loaded.is_busy
    groups = generate(loaded, prompts_of(3, 20), SAMPLING)
    assert differences(make_policy("tied"), groups, 1.0).mean() < 1e-5


def test_a_prompt_that_vllm_refuses_disturbs_no_other(loaded: GenerationEngine) -> None:
    first, second, third = prompts_of(3, 20)
    loaded.add(first, SAMPLING)
    with pytest.raises(Exception, match="maximum context length is 384"):
        loaded.add(replace(second, token_ids=second.token_ids * 20), SAMPLING)
    groups = generate(loaded, [second, third], SAMPLING)
    assert [group.prompt.index for group in groups] == [0, 1, 2]
    assert differences(make_policy("tied"), groups, 1.0).mean() < 1e-5


def test_biases_and_a_head_of_its_own_load_and_verify(tmp_path: Path) -> None:
    policy = make_policy("untied")
    engine = GenerationEngine(spec_of(write_policy(tmp_path / "untied", policy)))
    try:
        engine.load(*pack(policy, 0), verify=True)
        assert differences(policy, generate(engine, prompts_of(2, 20), SAMPLING), 1.0).mean() < 1e-5
        changed = disturb(policy, seed=8, scale=0.05)
        engine.load(*pack(changed, 1), verify=True)
        groups = generate(engine, prompts_of(2, 20), SAMPLING)
        assert differences(changed, groups, 1.0).mean() < 1e-5
    finally:
        engine.close()


def in_bf16(policy: PreTrainedModel) -> PreTrainedModel:
    policy.bfloat16()
    return policy


def test_bf16_weights_load_and_verify(tied_model: Path) -> None:
    policy = in_bf16(make_policy("tied"))
    engine = GenerationEngine(spec_of(tied_model, dtype="bfloat16"))
    try:
        engine.load(*pack(policy, 0), verify=True)
        groups = generate(engine, prompts_of(2, 20), SAMPLING)
        assert differences(policy, groups, 1.0).mean() < 0.05
        engine.load(*pack(disturb(policy, seed=8, scale=0.05), 1), verify=True)
        with pytest.raises(WeightSyncError):
            engine.verify(pack(in_bf16(make_policy("tied")), 0)[0])
        # What comes in fp32 is compared as vLLM's loader rounds it.
        engine.load(*pack(make_policy("tied"), 2), verify=True)
    finally:
        engine.close()


def test_prompts_with_seeds_that_pass_the_limit_of_a_pass_together_are_all_written(
    tied_model: Path,
) -> None:
    engine = GenerationEngine(replace(spec_of(tied_model), pass_tokens=384))
    try:
        engine.load(*pack(make_policy("tied"), 0), verify=False)
        assert len(tokens_of(engine, prompts_of(9, 100))) == 9 * SAMPLING.group_size
    finally:
        engine.close()
