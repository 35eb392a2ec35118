"""Numbers of an algorithm at their bounds."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.config import AlgorithmConfig


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("clip_low", 0.99, 1.0),
        ("clip_high", 1.5, 0.0),
        ("updates_per_batch", 1, 0),
        ("importance_cap", 1.0, 0.99),
        ("kl_coef", 0.0, -0.1),
        ("entropy_coef", 0.0, -0.1),
        ("parity_tolerance", None, 0.0),
        ("advantage", "leave_one_out", "leave_two_out"),
        ("kl_estimator", "k1", "k4"),
    ],
)
def test_a_value_beyond_its_bound_is_refused(key: str, good: Any, bad: Any) -> None:
    assert getattr(AlgorithmConfig.model_validate({key: good}), key) == good
    with pytest.raises(ValueError, match=key):
        AlgorithmConfig.model_validate({key: bad})
