"""How far apart two ways to compute a tensor are, by hand."""

from __future__ import annotations

import pytest
import torch

from t2g_ray.model.probe import TOLERANCE, relative_difference


def test_the_largest_difference_is_a_share_of_the_largest_expected_element() -> None:
    expected = torch.tensor([1.0, -4.0, 2.0])
    found = torch.tensor([1.0, -4.0, 3.0])
    assert relative_difference(found, expected) == 1.0 / 4.0
    assert relative_difference(expected, expected) == 0.0


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_rounding_to_a_precision_stays_within_its_tolerance(dtype: torch.dtype) -> None:
    exact = torch.linspace(-3.0, 3.0, 1001, dtype=torch.float64)
    assert relative_difference(exact.to(dtype).double(), exact) < TOLERANCE[dtype]
