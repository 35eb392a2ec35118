"""Both sides of the comparison have the same work, and both figures of both are shown."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.inputs.policy import DEMO_SFT
from benchmarks.peers.compare import product_figures, rows_of, trl_arguments, trl_work
from benchmarks.peers.trl_side import TrlWork
from benchmarks.speed.loop import Clock
from t2g_ray.config import GrpoConfig, load_config
from t2g_ray.learner.optim import lr_share

DEMO_GRPO = DEMO_SFT.with_name("demo_grpo.yaml")


def demo(*overrides: str) -> GrpoConfig:
    own = ["model=embedded", "reward.level=record"]
    return load_config(GrpoConfig, DEMO_GRPO, [*own, *overrides])


def figures(rate: float, trained: float, lr: float = 1e-3) -> dict[str, float]:
    return {
        "completions_per_s": rate,
        "trained_completions_per_s": trained,
        "tokens_per_completion": 20.0,
        "no_signal_share": 1 - trained / rate,
        "mean_lr": lr,
    }


def test_consumed_and_trained_completions_are_over_those_of_trl() -> None:
    runs = {
        "trl": [figures(100.0, 60.0), figures(100.0, 50.0)],
        "sync": [figures(300.0, 150.0), figures(200.0, 100.0)],
        "async_1": [figures(400.0, 180.0), figures(400.0, 200.0)],
    }
    rows = {row.metric: row for row in rows_of(runs, shipped="sync")}
    assert rows["ratio_vs_trl"].values == rows["ratio_vs_trl/sync"].values == (3.0, 2.0)
    assert rows["trained_ratio_vs_trl"].values == (2.5, 2.0)
    assert rows["trained_ratio_vs_trl/async_1"].values == (3.0, 4.0)
    assert rows["tokens_ratio_vs_trl"].values == (1.0, 1.0)
    assert rows["trained_completions_per_s/trl"].values == (60.0, 50.0)


@pytest.mark.parametrize("lrs", [(1e-3, 2e-3), (1e-3, 0.0), (1e-3, 1.01e-3), (2e-3, 1e-3)])
def test_sides_of_unlike_learning_rates_are_refused(lrs: Sequence[float]) -> None:
    sides = zip(("trl", "sync"), lrs, strict=True)
    runs = {side: [figures(100.0, 50.0, lr)] for side, lr in sides}
    with pytest.raises(ValueError, match="equal learning rates"):
        rows_of(runs, shipped="sync")


def test_the_product_counts_what_has_a_gradient_as_trained() -> None:
    config = demo("prompts_per_step=4", "group_size=8")
    line: dict[str, float | None] = {
        "time/step_s": 2.0,
        "groups/trained": 3.0,
        "groups/no_signal": 1.0,
        "tokens/generated": 640.0,
        "lr": 1e-3,
    }
    found = product_figures(config, [line, {**line, "lr": 3e-3}])
    assert found == pytest.approx(
        {
            "completions_per_s": 64 / 4,
            "trained_completions_per_s": 48 / 4,
            "tokens_per_completion": 20.0,
            "no_signal_share": 0.25,
            "mean_lr": 2e-3,
        }
    )
    with pytest.raises(ValueError, match="finite groups/trained"):
        product_figures(config, [{**line, "groups/trained": None}])


def test_the_demo_is_the_same_algorithm_for_trl() -> None:
    assert trl_arguments(demo()) == {
        "scale_rewards": "none",
        "loss_type": "dapo",
        "importance_sampling_level": "token",
        "epsilon": 0.2,
        "epsilon_high": 0.28,
        "mask_truncated_completions": False,
        "beta": 0.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.99,
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
    }


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("algorithm.advantage=group_std", "scale_rewards", "group"),
        ("algorithm.advantage=group_mean_batch_std", "scale_rewards", "batch"),
        ("algorithm.normalisation=sequences", "loss_type", "grpo"),
        ("algorithm.normalisation=constant", "loss_type", "dr_grpo"),
        ("algorithm.objective=cispo", "epsilon_high", 1.28),
        ("algorithm.ratio=sequence", "importance_sampling_level", "sequence"),
        ("algorithm.mask_truncated=true", "mask_truncated_completions", True),
        ("learner.optimizer.weight_decay=0.1", "weight_decay", 0.1),
        ("learner.optimizer.beta1=0.8", "adam_beta1", 0.8),
        ("learner.optimizer.max_grad_norm=0.5", "max_grad_norm", 0.5),
    ],
)
def test_what_one_side_changes_the_other_changes_too(
    override: str, name: str, value: object
) -> None:
    assert trl_arguments(demo(override))[name] == value


@pytest.mark.parametrize(
    "override",
    [
        "reward.level=batch",
        "algorithm.advantage=leave_one_out",
        "algorithm.advantage=batch_std",
        "algorithm.kl_coef=0.1",
        "algorithm.entropy_coef=0.1",
        "algorithm.updates_per_batch=2",
        "learner.optimizer.name=muon",
        "learner.lora.rank=4",
        "sampling.over_sample=1.5",
        "sampling.extra_groups=4",
        "data.order=small_first",
    ],
)
def test_what_trl_has_no_equal_of_is_refused(override: str) -> None:
    with pytest.raises(ValueError, match=override.partition("=")[0]):
        trl_arguments(demo(override))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_trl_gets_the_learning_rate_of_every_step(schedule: str) -> None:
    config = demo(
        f"learner.optimizer.schedule={schedule}", "prompts_per_step=2", "data.train_records=64"
    )
    clock = Clock(counted=6, lag=1)
    work = trl_work(config, clock)
    optimizer = config.learner.optimizer
    assert work.lr_shares == [lr_share(optimizer, n, clock.steps) for n in range(clock.steps)]
    assert len(work.prompt_ids) == len(work.records) == 2 * clock.steps
    assert (work.lr, work.first, work.counted) == (optimizer.lr, clock.first, 6)


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
def test_trl_knows_every_argument() -> None:
    from dataclasses import fields

    from trl import GRPOConfig

    assert trl_arguments(demo()).keys() <= {field.name for field in fields(GRPOConfig)}
    known: Any = {field.name for field in fields(TrlWork)}
    assert {"lr_shares", "arguments"} <= known
