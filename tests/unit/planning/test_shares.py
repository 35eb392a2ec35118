"""What is assumed of cards, beside what was published of them."""

from __future__ import annotations

import pytest

from t2g_ray.planning.cards import CARDS
from t2g_ray.planning.shapes import ModelShape
from t2g_ray.planning.shares import matmul_share
from t2g_ray.planning.speed.hardware import Hardware
from t2g_ray.planning.speed.plan import plan_speed
from tests.unit.planning.parts import lengths, sft

SMALL = ModelShape(
    layers=28, hidden=1024, inner=3072, queries=2048, keys=1024, vocab=151_936, is_tied=True
)
"""Qwen3-0.6B."""
LARGE = ModelShape(
    layers=36, hidden=2560, inner=9728, queries=4096, keys=1024, vocab=151_936, is_tied=True
)
"""Qwen3-4B."""


@pytest.mark.parametrize(
    ("shape", "card", "ranks", "length", "published"),
    [
        (SMALL, "H100", 1, 8_192, 26_000),
        (SMALL, "H100", 1, 65_536, 10_200),
        (LARGE, "H200", 8, 65_536, 29_500),
    ],
)
def test_learners_come_to_what_was_published_of_another_system(
    shape: ModelShape, card: str, ranks: int, length: int, published: float
) -> None:
    # prime-rl, benchmarks/results/BENCHMARKS.md: tokens/s of the trainer alone.
    config = sft(
        device="cuda",
        batch_size=8,
        learner={
            "gpus": 1,
            "ranks": ranks,
            "zero_stage": 3 if ranks > 1 else 0,
            "token_budget": length,
        },
    )
    speed = plan_speed(
        config, shape, lengths(1, length - 1, length - 1), Hardware(source=CARDS[card])
    )
    assert speed.tokens_per_s == pytest.approx(published, rel=0.1)


def test_wider_layers_reach_more_and_never_all() -> None:
    shares = [matmul_share(width) for width in (64, 1024, 4096, 16_384)]
    assert shares == sorted(shares) and shares[-1] < 0.5
