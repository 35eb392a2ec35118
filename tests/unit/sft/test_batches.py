"""The supervised stage without processes: samples, batches, and what they teach."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from t2g_ray.config import PromptConfig, SftConfig, build_config
from t2g_ray.graph import Entity, Graph
from t2g_ray.learner.batching import collate
from t2g_ray.learner.logprobs import TokenLogProbs
from t2g_ray.model.policy import MAX_POSITIONS, build_tiny_policy
from t2g_ray.prompts.messages import encode_answer, encode_prompt
from t2g_ray.records.corpus import build_tokenizer, generate_records
from t2g_ray.sft.batches import WINDOW_STEPS, Encoded, SftData, encode_examples, num_tokens
from t2g_ray.sft.plan import plan_sft
from t2g_ray.types import Example, Record

COMPACT = PromptConfig(style="compact")
TOKENIZER = build_tokenizer()


def encode(records: list[Record], **limits: Any) -> Encoded:
    given = {"prompt": COMPACT, "max_positions": MAX_POSITIONS, "token_budget": 4096, **limits}
    return encode_examples(TOKENIZER, records, **given)


def config_of(run_dir: Path, **tree: Any) -> SftConfig:
    data = {"train_records": 8, **tree.pop("data", {})}
    return build_config(SftConfig, {"run_dir": str(run_dir), "data": data, **tree})


def test_a_sample_is_the_whole_prompt_and_the_answer_with_one_end_token() -> None:
    (record,) = generate_records("train", 1, seed=0)
    (sample,) = encode([record]).examples
    prompt = encode_prompt(TOKENIZER, record, style="compact", thinking=False, max_tokens=None)
    assert sample.prompt_ids == prompt
    answer = sample.completion_ids.tolist()
    assert TOKENIZER.decode(answer[:-1]) == record.graph.to_json()
    assert answer.count(TOKENIZER.eos_token_id) == 1
    assert answer[-1] == TOKENIZER.eos_token_id


def test_labels_are_the_answer_and_its_end_token_and_never_the_prompt() -> None:
    samples = encode(generate_records("train", 4, seed=0)).examples
    micro = collate(samples, is_packed=False)
    labels = torch.cat([torch.from_numpy(s.completion_ids) for s in samples])
    assert micro.targets.tolist() == labels.tolist()
    width = micro.token_ids.shape[1]
    first = 0
    for row, sample in enumerate(samples):
        columns = micro.predictor[first : first + len(sample.completion_ids)] - row * width
        # The state at the prompt's last token predicts the answer's first, and so on.
        start = len(sample.prompt_ids) - 1
        assert columns.tolist() == list(range(start, start + len(sample.completion_ids)))
        first += len(sample.completion_ids)


def test_a_policy_trained_on_one_record_writes_its_answer_and_stops() -> None:
    (record,) = generate_records("train", 1, seed=0)
    (sample,) = encode([record]).examples
    policy = build_tiny_policy(TOKENIZER, seed=0)
    model, micro = TokenLogProbs(policy), collate([sample], is_packed=False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for _ in range(60):
        (-model(micro, 1.0)[0].mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    ids = list(sample.prompt_ids)
    with torch.no_grad():
        for _ in range(len(sample.completion_ids) + 5):
            ids.append(int(policy(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == TOKENIZER.eos_token_id:
                break
    assert ids[len(sample.prompt_ids) :] == sample.completion_ids.tolist()


def test_every_epoch_trains_on_the_same_prompts_and_answers() -> None:
    records = generate_records("train", 12, seed=0)
    before = copy.deepcopy(records)
    samples = encode(records).examples
    rows = [(*s.prompt_ids, *s.completion_ids.tolist()) for s in samples]
    data = SftData(examples=samples, batch_size=4, num_steps=9, seed=0)
    seen = Counter(
        (*s.prompt_ids, *s.completion_ids.tolist()) for step in range(9) for s in data.batch(step)
    )
    assert seen == Counter(dict.fromkeys(rows, 3))
    assert records == before


@pytest.mark.parametrize("steps", [3, 40, 2 * WINDOW_STEPS])
def test_each_record_comes_once_an_epoch(steps: int) -> None:
    samples = encode(generate_records("train", 30, seed=0)).examples
    data = SftData(examples=samples, batch_size=4, num_steps=steps, seed=1)
    counts = Counter(sample.group for step in range(steps) for sample in data.batch(step))
    epochs, rest = divmod(4 * steps, 30)
    assert Counter(counts.values())[epochs + 1] == rest
    assert counts.total() == 4 * steps
    assert set(counts.values()) <= {epochs, epochs + 1}


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    samples = encode(generate_records("train", 30, seed=0)).examples

    def groups(step: int, seed: int) -> list[int]:
        data = SftData(examples=samples, batch_size=4, num_steps=40, seed=seed)
        return [sample.group for sample in data.batch(step)]

    forward = [groups(step, 0) for step in range(40)]
    assert [groups(step, 0) for step in reversed(range(40))] == forward[::-1]
    assert [groups(step, 1) for step in range(40)] != forward


def test_batches_of_a_window_need_little_padding() -> None:
    samples = encode(generate_records("train", 256, seed=0)).examples
    data = SftData(examples=samples, batch_size=16, num_steps=16, seed=0)

    def num_slots(batches: list[list[Example]]) -> int:
        return sum(len(batch) * max(num_tokens(s) for s in batch) for batch in batches)

    real = sum(num_tokens(sample) for sample in samples)
    unsorted = [list(samples[i : i + 16]) for i in range(0, 256, 16)]
    assert num_slots([data.batch(step) for step in range(16)]) < 1.1 * real < num_slots(unsorted)


def test_answers_past_the_models_positions_are_counted_and_left_out() -> None:
    records = generate_records("train", 20, seed=0)
    lengths = sorted(num_tokens(sample) for sample in encode(records).examples)
    encoded = encode(records, max_positions=lengths[10])
    assert sorted(num_tokens(sample) for sample in encoded.examples) == [
        length for length in lengths if length <= lengths[10]
    ]
    assert encoded.num_long_answers == 20 - len(encoded.examples) > 0
    assert encoded.num_long_prompts == 0
    with pytest.raises(ValueError, match=r"the model's 5 positions .* none among 20"):
        encode(records, max_positions=5)


def test_a_sample_over_the_token_budget_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"learner\.token_budget=16, found \d+ tokens"):
        encode(generate_records("train", 20, seed=0), token_budget=16)


def test_thinking_learns_the_reasoning_of_the_record_and_needs_one() -> None:
    record = Record(
        text="Ann left.",
        entity_types=("person",),
        relation_types=(),
        graph=Graph((Entity(0, "Ann", "person"),), ()),
        extra={"thinking": "Ann is a person."},
    )
    prompt = COMPACT.model_copy(update={"thinking": True})
    (sample,) = encode([record], prompt=prompt).examples
    answer = encode_answer(TOKENIZER, record.graph, thinking_text="Ann is a person.")
    assert tuple(sample.completion_ids.tolist()) == answer
    with pytest.raises(ValueError, match="must have a text under 'thinking'"):
        encode(generate_records("train", 1, seed=0), prompt=prompt)


def test_held_out_records_are_read_only_where_the_run_evaluates(tmp_path: Path) -> None:
    data = {"heldout_records": 4}
    assert plan_sft(config_of(tmp_path / "without", data=data)).heldout == []
    plan = plan_sft(config_of(tmp_path / "with", data=data, eval={"every": 5}))
    assert len(plan.heldout) == 4
    assert not {record.text for record in plan.heldout} & {record.text for record in plan.records}


def test_bad_data_is_refused_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file"):
        plan_sft(config_of(tmp_path / "run", data={"train": "missing.jsonl"}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("first", [5, 12, 16, 20, 32, 33])
@pytest.mark.parametrize("then", [12, 16, 20, 32, 40, 48, 50])
def test_a_run_of_another_length_follows_where_each_record_still_comes_once_an_epoch(
    first: int, then: int
) -> None:
    examples = encode(generate_records("train", 100, seed=0)).examples
    before, after = (
        SftData(examples=examples, batch_size=2, num_steps=steps, seed=0) for steps in (first, then)
    )
    for step in range(1, min(first, then) + 1):
        taken = [e for number in range(step) for e in before.batch(number)]
        taken += [e for number in range(step, then) for e in after.batch(number)]
        counts = Counter(example.group for example in taken)
        is_once = max(counts.values()) - min(counts[e.group] for e in examples) <= 1
        if after.follows(step, first):
            assert is_once
        same = [before.batch(number) for number in range(step)] == [
            after.batch(number) for number in range(step)
        ]
        assert not same or after.follows(step, first) or step == min(first, then)
