"""How long prompts and answers will be, and whether that was given or assumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2g_ray.planning.speed.lengths import Lengths, choose_lengths, lengths_of_run
from tests.unit.planning.parts import grpo, lengths, sft


def test_what_is_not_known_is_a_share_of_the_limits_and_said_so() -> None:
    chosen = choose_lengths(grpo(sampling={"max_new_tokens": 300}))
    assert (chosen.prompt, chosen.answer, chosen.longest) == (512, 150, 300)
    assert chosen.source.startswith("assumed")
    assert choose_lengths(sft(prompt={"max_tokens": 400})).answer == 100


def test_given_numbers_come_first_and_never_pass_the_limit() -> None:
    config = grpo(sampling={"max_new_tokens": 300})
    chosen = choose_lengths(config, prompt=70, answer=200)
    assert (chosen.prompt, chosen.answer, chosen.longest) == (70, 200, 300)
    assert "answers have 200 tokens, as given" in chosen.source
    assert choose_lengths(config, answer=1000).answer == 300


def test_without_an_end_every_answer_is_as_long_as_it_may_be() -> None:
    chosen = choose_lengths(grpo(sampling={"max_new_tokens": 300, "ignore_eos": True}))
    assert (chosen.answer, chosen.longest) == (300, 300)


def test_another_runs_lengths_are_taken_with_their_tail() -> None:
    chosen = choose_lengths(grpo(sampling={"max_new_tokens": 500}), like=lengths(50, 100, 250))
    assert (chosen.prompt, chosen.answer, chosen.longest) == (50, 100, 250)
    assert choose_lengths(grpo(), like=lengths(50, 100, 250), answer=40).longest == 100


def lines(folder: Path, *found: dict[str, float]) -> Path:
    text = "".join(json.dumps({"step": i, **line}) + "\n" for i, line in enumerate(found))
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_a_run_of_grpo_tells_its_means(tmp_path: Path) -> None:
    step = {"tokens/trained": 160, "tokens/prompt": 800, "completion_length/mean": 20}
    empty = {"tokens/trained": 0, "tokens/prompt": 0, "completion_length/mean": 9}
    found = lengths_of_run(lines(tmp_path, step, empty), batch_size=16)
    assert (found.prompt, found.answer) == (100, 20)
    assert str(tmp_path) in found.source


def test_a_run_of_sft_tells_them_by_its_batch(tmp_path: Path) -> None:
    found = lengths_of_run(
        lines(tmp_path, {"tokens/trained": 160, "tokens/prompt": 800}), batch_size=16
    )
    assert (found.prompt, found.answer) == (50, 10)


def test_a_run_without_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--like must be the folder of a run with steps"):
        lengths_of_run(lines(tmp_path), batch_size=16)


def test_no_text_is_shorter_than_a_token() -> None:
    with pytest.raises(ValueError, match="must have tokens"):
        Lengths(prompt=0, answer=1, longest=1, source="")
