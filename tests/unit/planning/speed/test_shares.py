"""What is assumed of cards, beside what was published of them."""

from __future__ import annotations

import pytest

from t2g_ray.planning.speed.shares import matmul_share


def test_training_reaches_the_published_share_at_the_width_that_it_is_fitted_to() -> None:
    # 16.8 % of 6 operations a parameter and token; 8 with layers that are computed twice.
    assert matmul_share(1024) == pytest.approx(0.168 * 8 / 6, rel=0.05)


def test_wider_layers_reach_more_and_never_all() -> None:
    shares = [matmul_share(width) for width in (64, 1024, 4096, 16_384)]
    assert shares == sorted(shares) and shares[-1] < 0.5
