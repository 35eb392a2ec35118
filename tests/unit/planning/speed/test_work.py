"""What one optimiser step has to compute and to move."""

from __future__ import annotations

import pytest

from t2g_ray.planning.shapes import trained_parameters
from t2g_ray.planning.speed.work import (
    checkpoint_bytes,
    forward_flops,
    passes_of,
    sent_bytes,
    step_work,
)
from tests.unit.planning.parts import QWEN_7B, TINY, grpo, lengths, sft


def test_a_groups_prompt_is_computed_once_where_rows_are_packed() -> None:
    packed = step_work(grpo(prompts_per_step=4, group_size=8), QWEN_7B, lengths())
    assert packed.computed == 4 * 600 + 32 * 200
    assert packed.tokens == 32 * 800 and packed.answer_tokens == 32 * 200
    joined = step_work(
        grpo(prompts_per_step=4, group_size=8, learner={"packing": False}), QWEN_7B, lengths()
    )
    assert joined.computed == 32 * 800
    assert joined.forward.total > 2 * packed.forward.total


def test_a_forward_pass_takes_two_operations_a_parameter_and_token() -> None:
    flops = forward_flops(QWEN_7B, lengths(1e-9, 1, 1), num_prompts=1, num_answers=1)
    head = QWEN_7B.vocab * QWEN_7B.hidden
    assert QWEN_7B.body_parameters == QWEN_7B.parameters - 2 * head
    assert flops.linear == pytest.approx(2 * (QWEN_7B.parameters - head))
    assert flops.attention < flops.linear / 1e4
    long = forward_flops(QWEN_7B, lengths(1000, 1, 1), num_prompts=2, num_answers=0)
    assert long.attention == 4 * 28 * 3584 * 2 * 1000**2 / 2


def test_passes_follow_from_updates_reference_and_recomputation() -> None:
    cuda = passes_of(grpo(algorithm={"kl_coef": 0.1, "updates_per_batch": 2}))
    assert (cuda.forward, cuda.backward, cuda.recomputation, cuda.updates) == (3, 4, 2, 2)
    assert passes_of(sft()).total == 3


def test_adapters_alone_are_trained_and_sent() -> None:
    config = grpo(learner={"lora": {"rank": 4, "sync": "adapter"}})
    count = TINY.adapters(4)
    assert trained_parameters(config.learner, TINY) == count
    assert sent_bytes(config, TINY) == 2 * count
    assert sent_bytes(grpo(), TINY) == 2 * TINY.parameters


def test_a_checkpoint_holds_weights_master_weights_and_moments() -> None:
    assert checkpoint_bytes(grpo().learner, TINY) == 14 * TINY.parameters
