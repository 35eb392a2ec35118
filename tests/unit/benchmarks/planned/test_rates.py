"""What is measured, and how rates follow from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.inputs.workload import completion_of
from benchmarks.planned.rates import _decoded, line_through, measured_grpo
from t2g_ray.types import Group, Prompt
from tests.unit.planning.parts import grpo, sft


def test_the_line_through_two_loads_is_a_rate_and_what_no_load_takes() -> None:
    assert line_through((100, 1.5), (300, 3.5)) == (100, 0.5)


@pytest.mark.parametrize(
    ("small", "large"),
    [((100, 2.0), (300, 2.0)), ((100, 0.5), (300, 3.5)), ((100, 1.0), (100, 2.0))],
)
def test_where_no_line_makes_sense_all_seconds_count_for_the_load(
    small: tuple[float, float], large: tuple[float, float]
) -> None:
    assert line_through(small, large) == (large[0] / large[1], 0.0)


def test_sequences_at_a_time_are_those_of_the_mean_pass_of_one_engine() -> None:
    prompt = Prompt(index=0, token_ids=(1,), likely_ids=())
    groups = [
        Group(
            prompt=prompt,
            completions=tuple(completion_of([1] * length) for length in lengths),
            sampler=0,
            generate_s=0.0,
        )
        for lengths in ((10, 20), (30, 40))
    ]
    at_once, tokens_per_s = _decoded(groups, 0.5, engines=2)
    assert (at_once, tokens_per_s) == (50 / 40, 50 / 0.5)


def test_sft_is_measured_with_its_own_learner_and_no_longer_texts_than_fit(tmp_path: Path) -> None:
    config = sft(batch_size=12, learner={"zero_stage": 1, "token_budget": 700})
    measured = measured_grpo(config, tmp_path)
    assert measured.learner == config.learner
    assert measured.prompts_per_step == 12
    assert measured.prompt.max_tokens + measured.sampling.max_new_tokens <= 700


def test_grpo_is_measured_with_its_engines_awake_and_syncs_that_are_not_verified(
    tmp_path: Path,
) -> None:
    shared = {"rollout": {"gpus": 0.5}, "learner": {"gpus": 0.5}}
    measured = measured_grpo(grpo(colocate="time", **shared), tmp_path)
    assert measured.colocate == "share"
    assert measured.sync.verify_every > 1000
    assert Path(measured.run_dir).is_relative_to(tmp_path)
