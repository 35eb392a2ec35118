"""Configuration -> records, prompts and a starting model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from t2g_ray.config import GrpoConfig, PromptConfig, SftConfig, build_config
from t2g_ray.model.policy import load_policy, resolve_model
from t2g_ray.prompts.load import (
    LoadedSplit,
    PromptStream,
    encode_prompts,
    likely_answers,
    load_split,
)
from t2g_ray.records.corpus import Split, build_tokenizer, generate_records, split_of
from t2g_ray.records.jsonl import write_records
from t2g_ray.run.folder import RunDir
from t2g_ray.sft.batches import encode_examples

COMPACT = PromptConfig(style="compact")


def config_of(run_dir: Path, run_seed: int = 0, **data: Any) -> SftConfig:
    return build_config(SftConfig, {"run_dir": str(run_dir), "seed": run_seed, "data": data})


@pytest.mark.parametrize("part", ["train", "rl"])
def test_the_embedded_world_gives_the_part_and_number_asked_for(
    tmp_path: Path, part: Split
) -> None:
    config = config_of(tmp_path, run_seed=3, part=part, level="easy", train_records=20)
    records = load_split(config, "train")
    assert len(records) == 20
    assert {split_of(record.text) for record in records} == {part}
    assert records == generate_records(part, 20, seed=3, level="easy")


def test_the_seed_of_the_data_comes_before_the_seed_of_the_run(tmp_path: Path) -> None:
    own = config_of(tmp_path, run_seed=9, seed=4, train_records=5)
    assert load_split(own, "train") == generate_records("train", 5, seed=4)


def test_held_out_records_of_the_embedded_world_come_in_both_kinds(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    splits: tuple[LoadedSplit, ...] = ("heldout", "heldout_names")
    for split in splits:
        records = load_split(config, split)
        assert len(records) == 512
        assert {split_of(record.text) for record in records} == {split}


def test_a_file_gives_its_first_records_and_none_gives_none(tmp_path: Path) -> None:
    records, others = generate_records("train", 6, seed=0), generate_records("rl", 3, seed=0)
    path, other = tmp_path / "records.jsonl", tmp_path / "others.jsonl"
    write_records(path, records)
    write_records(other, others)
    config = config_of(tmp_path, train=str(path), heldout=str(other), heldout_records=2)
    assert load_split(config, "train") == records
    assert load_split(config, "heldout") == others[:2]
    assert load_split(config, "heldout_names") == []
    assert load_split(config_of(tmp_path, heldout="none"), "heldout") == []


def _link(file: Path, made: Path) -> None:
    made.symlink_to(file)


def _hard_link(file: Path, made: Path) -> None:
    made.hardlink_to(file)


def _copy(file: Path, made: Path) -> None:
    made.write_bytes(file.read_bytes())


def _shuffled(file: Path, made: Path) -> None:
    made.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))


def _spaced(file: Path, made: Path) -> None:
    # Other bytes, the same texts.
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    made.write_text("".join(json.dumps({**r, "text": f" {r['text']} "}) + "\n" for r in rows))


def _most(file: Path, made: Path) -> None:
    made.write_text("".join(file.read_text().splitlines(keepends=True)[:4]))


@pytest.mark.parametrize("make", [_link, _hard_link, _copy, _shuffled, _spaced, _most])
@pytest.mark.parametrize("kind", [SftConfig, GrpoConfig])
def test_records_are_not_held_out_from_the_training_that_they_are_in(
    tmp_path: Path, make: Callable[[Path, Path], None], kind: Any
) -> None:
    file, made = tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"
    write_records(file, generate_records("train", 6, seed=0))
    make(file, made)
    data = {"train": str(file), "heldout": str(made)}
    with pytest.raises(ValueError, match=r"data\.heldout must hold other texts than data\.train"):
        load_split(build_config(kind, {"run_dir": "x", "data": data}), "train")


def test_one_file_is_refused_whichever_of_its_records_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    write_records(file, generate_records("train", 9, seed=0))
    same = str(tmp_path / "." / ".." / tmp_path.name / "train.jsonl")
    config = config_of(tmp_path, train=str(file), heldout=same, train_records=1)
    with pytest.raises(ValueError, match="found 1 of its 9 texts"):
        load_split(config, "train")


def test_few_shared_texts_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, others = generate_records("train", 6, seed=0), generate_records("rl", 5, seed=0)
    files = tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"
    write_records(files[0], train)
    write_records(files[1], [*others, train[3]])
    load_split(config_of(tmp_path, train=str(files[0]), heldout=str(files[1])), "train")
    assert "1 of the 6 texts of data.heldout" in caplog.text


def test_a_missing_or_short_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for source in (str(path), "none"):
        with pytest.raises(ValueError, match=r"data\.train must be .* found no file at"):
            load_split(config_of(tmp_path, train=source), "train")
    write_records(path, generate_records("train", 6, seed=0))
    with pytest.raises(ValueError, match="train_records=7 records, found 6"):
        load_split(config_of(tmp_path, train=str(path), train_records=7), "train")


def test_prompts_that_are_too_long_are_counted_and_left_out_whole() -> None:
    tokenizer = build_tokenizer()
    records = generate_records("train", 50, seed=0)
    everything, num_too_long = encode_prompts(tokenizer, records, COMPACT)
    assert (num_too_long, [record for record, _ in everything]) == (0, records)
    limit = sorted(len(ids) for _, ids in everything)[25]
    kept, num_too_long = encode_prompts(
        tokenizer, records, COMPACT.model_copy(update={"max_tokens": limit})
    )
    assert kept == [pair for pair in everything if len(pair[1]) <= limit]
    assert num_too_long == 50 - len(kept) > 0


def test_the_likely_answer_is_what_sft_would_teach() -> None:
    tokenizer = build_tokenizer()
    records = generate_records("train", 5, seed=0, thinking=True)
    for is_thinking in (False, True):
        prompt = COMPACT.model_copy(update={"thinking": is_thinking})
        encoded = encode_examples(
            tokenizer, records, prompt, max_positions=None, token_budget=10_000
        )
        taught = [tuple(sample.completion_ids) for sample in encoded.examples]
        assert likely_answers(tokenizer, records, prompt) == taught
    tokenizer.eos_token = None
    assert likely_answers(tokenizer, records, COMPACT) == [()] * 5


def test_no_prompt_left_is_an_error() -> None:
    records = generate_records("train", 3, seed=0)
    with pytest.raises(ValueError, match=r"prompt\.max_tokens=8, found none among 3 records"):
        encode_prompts(build_tokenizer(), records, COMPACT.model_copy(update={"max_tokens": 8}))


def test_the_embedded_model_is_written_once_for_its_seed(tmp_path: Path) -> None:
    config = config_of(tmp_path, run_seed=3)
    folder = resolve_model(config, RunDir(tmp_path))
    assert folder == str(tmp_path / "initial_model")
    written = (tmp_path / "initial_model" / "config.json").stat().st_mtime_ns
    assert resolve_model(config, RunDir(tmp_path)) == folder
    assert (tmp_path / "initial_model" / "config.json").stat().st_mtime_ns == written
    first, tokenizer = load_policy(folder)
    assert tokenizer.encode("works for") == build_tokenizer().encode("works for")
    elsewhere = resolve_model(config_of(tmp_path, run_seed=4), RunDir(tmp_path / "other"))
    weights, others = first.state_dict(), load_policy(elsewhere)[0].state_dict()
    assert any(not torch.equal(weights[name], others[name]) for name in weights)


def test_any_other_model_name_passes_unchanged(tmp_path: Path) -> None:
    config = config_of(tmp_path).model_copy(update={"model": "owner/model"})
    assert resolve_model(config, RunDir(tmp_path)) == "owner/model"


@pytest.mark.parametrize(("over_sample", "draft_tokens"), [(1.0, 24), (1.5, 24), (1.0, 0)])
def test_answers_are_guessed_where_no_group_is_chosen_for_its_speed(
    over_sample: float, draft_tokens: int
) -> None:
    config = build_config(
        GrpoConfig,
        {
            "run_dir": "x",
            "data": {"train_records": 2},
            "sampling": {"over_sample": over_sample},
            "rollout": {"draft_tokens": draft_tokens},
        },
    )
    stream = PromptStream(build_tokenizer(), config)
    assert bool(stream.prompt(0).likely_ids) == (over_sample == 1.0 and draft_tokens > 0)
