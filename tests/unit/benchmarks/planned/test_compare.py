"""Cases of the comparison, and what is counted of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.planned import compare
from benchmarks.planned.compare import Planned, case_config, rows_of, tokens_per_s
from t2g_ray.config import GrpoConfig, SftConfig
from t2g_ray.planning.speed.lengths import Lengths
from tests.unit.planning.parts import grpo, rates


def test_a_case_changes_the_stage_and_what_is_sharded() -> None:
    base = grpo(device="cpu", rollout={"gpus": 0}, learner={"gpus": 0, "ranks": 2})
    trained = case_config(base, "grpo", 3, steps=5)
    supervised = case_config(base, "sft", 0, steps=5)
    assert isinstance(trained, GrpoConfig) and isinstance(supervised, SftConfig)
    assert (trained.learner.zero_stage, supervised.learner.zero_stage) == (3, 0)
    assert trained.steps == supervised.steps == 8
    assert trained.run_dir != supervised.run_dir
    assert supervised.batch_size == 2 * base.prompts_per_step


def test_a_policy_of_random_weights_is_written_once(tmp_path: Path) -> None:
    folder = Path(compare.random_policy("demo", tmp_path))
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert compare.random_policy("demo", tmp_path) == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="a size must be one of"):
        compare.random_policy("huge", tmp_path)


def test_the_first_steps_are_not_counted() -> None:
    lines = [
        {"step": n, "time_s": time_s, "tokens/prompt": 60.0, "tokens/trained": 40.0}
        for n, time_s in enumerate((9.0, 10.0, 11.0, 12.0, 15.0), 1)
    ]
    assert tokens_per_s(lines) == 200 / 4
    with pytest.raises(ValueError, match="more than 3 steps, found 3"):
        tokens_per_s(lines[:3])


def test_a_row_says_by_how_much_a_plan_was_off() -> None:
    rows = {
        row.metric: row.median
        for row in rows_of("sft/zero_0", [Planned(predicted=90.0, measured=100.0)])
    }
    assert rows["predicted_over_measured/sft/zero_0"] == pytest.approx(0.9)


def test_a_plan_takes_the_lengths_of_the_counted_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Lengths] = []

    def plan_speed(config: object, shape: object, lengths: Lengths, hardware: object) -> None:
        seen.append(lengths)

    monkeypatch.setattr(compare, "plan_speed", plan_speed)
    base = grpo(
        device="cpu",
        prompts_per_step=2,
        group_size=5,
        rollout={"gpus": 0},
        learner={"gpus": 0},
        run_dir=str(tmp_path),
    )
    first = [{"tokens/prompt": 900.0, "tokens/trained": 900.0}] * 3
    counted = [{"tokens/prompt": 300.0, "tokens/trained": n} for n in (60.0, 80.0)]
    compare.speed_of(base, rates(longest_tokens=9.0), [*first, *counted])
    assert [(one.prompt, one.answer, one.longest) for one in seen] == [(30, 7, 9)]
