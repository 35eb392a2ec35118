"""What the other side's figures are made of."""

from __future__ import annotations

import pytest

from benchmarks.peers.trl_side import TrlWork, _share_of, trl_figures

WORK = TrlWork(
    model="",
    prompt_ids=[],
    records=[],
    reward={},
    prompts_per_step=4,
    group_size=8,
    max_new_tokens=8,
    temperature=1.0,
    lr=1.0,
    lr_shares=[0.5, 1.0, 0.8, 0.6],
    arguments={},
    first=2,
    counted=2,
    seed=0,
)
LOG = [
    {"completions/mean_length": 5.0, "frac_reward_zero_std": 1.0},
    {"completions/mean_length": 5.0, "frac_reward_zero_std": 1.0},
    {"completions/mean_length": 20.0, "frac_reward_zero_std": 0.25},
    {"completions/mean_length": 30.0, "frac_reward_zero_std": 0.75},
    {"train_runtime": 9.0},
]


def test_the_counted_steps_alone_make_the_figures() -> None:
    found = trl_figures(WORK, [60.0, 61.0, 63.0, 65.0], [0.0, 9.0, 0.8, 0.6], LOG)
    assert found == pytest.approx(
        {
            "completions_per_s": 64 / 4,
            "trained_completions_per_s": 32 / 4,
            "tokens_per_completion": 25.0,
            "no_signal_share": 0.5,
            "mean_lr": 0.7,
        }
    )


@pytest.mark.parametrize(
    ("ends_s", "lrs", "lines"),
    [
        ([1.0, 2.0, 3.0], [0.1] * 4, 4),
        ([1.0, 2.0, 3.0, 4.0], [0.1] * 3, 4),
        ([1.0, 2.0, 3.0, 4.0], [0.1] * 4, 3),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [0.1] * 5, 4),
        ([], [], 0),
    ],
)
def test_a_run_with_steps_missing_or_too_many_is_refused(
    ends_s: list[float], lrs: list[float], lines: int
) -> None:
    with pytest.raises(ValueError, match="TRL must take 4 steps"):
        trl_figures(WORK, ends_s, lrs, LOG[:lines])


def test_the_schedule_is_the_given_one_step_by_step() -> None:
    assert [_share_of(WORK)(step) for step in range(5)] == [0.5, 1.0, 0.8, 0.6, 0.6]
