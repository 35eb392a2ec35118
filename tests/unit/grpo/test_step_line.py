"""One line a step by hand, every key present, and books that must balance."""

from __future__ import annotations

import dataclasses

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.books import Surplus
from t2g_ray.grpo.metric_keys import missing_keys
from t2g_ray.grpo.step_line import FinishedStep, step_line
from t2g_ray.types import GroupSummary, StepReport, TrainReport
from tests.unit.grpo.parts import A, B, C, D
from tests.unit.parts import sync_report, train_report

CONFIG = build_config(
    GrpoConfig, {"run_dir": "x", "rollout": {"actors": 2}, "learner": {"ranks": 2}}
)
FROM_THE_TRACE = {
    "faults/tracker",
    "tokens/per_pass",
    "time/generate_s",
    "time/reward_s",
    "time/train_s",
    "time/rollout_wait_s",
    "time/backpressure_s",
    "rollout/actors",
    "idle/learner",
    "idle/samplers",
}


AGREED = train_report()


def line(
    summaries: list[GroupSummary],
    trained: set[int],
    train: TrainReport = AGREED,
    surplus: Surplus | None = None,
) -> dict[str, float]:
    """`trained` holds the indices of the groups whose graded completions were trained."""
    lengths = {
        s.index: [n for n, ok in zip(s.lengths, s.is_valid, strict=True) if ok]
        for s in summaries
        if s.index in trained
    }
    step = FinishedStep(
        summaries=summaries,
        trained=lengths,
        surplus=surplus or Surplus(),
        report=StepReport(version=5, train=train, sync=sync_report()),
        time_s=20.0,
        wall_s=2.0,
    )
    return step_line(step, CONFIG)


def test_a_line_has_every_key_that_the_trace_does_not_give() -> None:
    assert set(missing_keys(line([A, B], {0}))) == FROM_THE_TRACE


def test_groups_are_counted_by_what_became_of_them() -> None:
    found = line([A, B, C, D], {0, 2})
    assert (found["groups/trained"], found["groups/no_signal"], found["groups/dropped"]) == (
        2,
        1,
        1,
    )
    assert found["groups/grader_errors"] == 2


def test_tokens_of_masked_completions_are_generated_and_not_trained() -> None:
    found = line([A, B, C, D], {0, 2})
    assert found["tokens/generated"] == 30 + 10 + 50 + 6
    assert found["tokens/trained"] == 30 + 10
    # The prompt counts once for each trained sample: 2 + 2.
    assert found["tokens/prompt"] == 7 * 4
    assert found["completion_length/mean"] == pytest.approx(96 / 9)
    assert found["completion_length/truncated_rate"] == pytest.approx(2 / 9)


def test_throughput_counts_trained_tokens_over_all_of_the_step() -> None:
    found = line([A, B, C], {0, 2})
    assert found["throughput/tokens_per_s"] == (28 + 40) / 2.0
    assert found["throughput/generated_tokens_per_s"] == 40 / 2.0
    # Two samplers and two learner ranks.
    assert found["throughput/tokens_per_s_per_device"] == (28 + 40) / 2.0 / 4


def test_rewards_and_scores_leave_out_what_was_not_graded() -> None:
    found = line([A, B, C], {0, 2})
    # Valid rewards: 1, 0, 1, 1, 2, 0.
    assert found["reward/mean"] == pytest.approx(5 / 6)
    assert found["reward/json"] == pytest.approx((0.5 * 2 + 1.0 * 2 + 0.25 * 2) / 6)
    assert found["reward_std/group_mean"] == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    # Entities: tp 4, fp 0, fn 5; relations: tp 0.
    assert found["f1/entities"] == pytest.approx(2 * 4 / (2 * 4 + 0 + 5))
    assert found["f1/relations"] == 0.0
    assert found["json_valid_rate"] == pytest.approx(4 / 6)


def test_what_a_step_gave_up_is_counted_and_shows_how_much_shorter_the_taken_ones_were() -> None:
    found = line([A, C], {0, 2}, surplus=Surplus((B,), {7: [3, 5], 8: []}))
    assert (found["groups/dropped"], found["groups/aborted"]) == (1, 2)
    assert found["tokens/generated"] == (10 + 20) + (4 + 40 + 6) + (5 + 5)
    assert found["tokens/aborted"] == 3 + 5
    assert found["completion_length/mean"] == (10 + 20 + 4 + 40 + 6) / 5
    # Nine completions were begun: those five, two of B, and the two that were cut.
    assert found["completion_length/taken_over_begun"] == pytest.approx(16 / (98 / 9))
    assert line([A, C], {0, 2})["completion_length/taken_over_begun"] == 1.0


def test_staleness_is_the_age_of_the_trained_tokens() -> None:
    # Step 5 left version 4: 30 tokens of A are new, 4 of C are 1 version old and 6 are 2.
    found = line([A, B, C], {0, 2})
    assert found["staleness/mean"] == pytest.approx((4 * 1 + 6 * 2) / 40)
    assert found["staleness/max"] == 2
    # Without a trained group all of them count: B has 10 tokens of version 3.
    found = line([A, B], set())
    assert found["staleness/mean"] == pytest.approx(10 / 40)


def test_a_step_in_which_nothing_was_graded_keeps_its_scores() -> None:
    nothing = dataclasses.replace(
        A,
        is_valid=(False, False),
        parts={},
        tokens_by_version={},
    )
    found = line([nothing], set())
    assert (found["reward/mean"], found["json_valid_rate"]) == (0.0, 0.0)
    assert (found["staleness/mean"], found["staleness/max"]) == (0.0, 0)
    assert {"f1/entities", "f1/relations"} <= found.keys()


def test_every_figure_of_the_learner_and_of_the_sync_has_its_key() -> None:
    values = {f.name: float(n) for n, f in enumerate(dataclasses.fields(TrainReport), start=1)}
    found = line([A], {0}, train_report(**values))
    keys = {
        "loss": "loss",
        "grad_norm": "grad_norm",
        "lr": "lr",
        "entropy": "entropy",
        "kl": "kl",
        "clip_fraction": "clip_fraction",
        "mismatch/logprob_difference": "logprob_difference",
        "mismatch/current_difference": "current_difference",
        "tokens/current": "num_current",
        "mismatch/kl": "mismatch_kl",
        "mismatch/max_ratio": "max_ratio",
        "mismatch/truncated_share": "truncated_share",
        "tokens/loss": "num_tokens",
        "time/learner_s": "seconds",
    }
    assert {key: found[key] for key in keys} == {key: values[name] for key, name in keys.items()}
    assert set(keys.values()) == values.keys()
    assert [found[f"sync/{name}"] for name in ("mib", "buckets", "verified")] == [1, 1, 1]
    assert found["time/sync_s"] == 0.25
