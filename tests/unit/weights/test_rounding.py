"""Rounding at random: right on average, exact where it can be, and loud where it is not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.weights.manifest import WeightSyncError
from t2g_ray.weights.rounding import ChangeArrived, rounded

NARROW = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("value", [0.3, -0.3, 1 + 1e-5, 1e-6, -7e-8, 1.999, 100.1, 3e-9, 0.0])
def test_the_mean_of_what_a_value_becomes_is_the_value(dtype: torch.dtype, value: float) -> None:
    exact = torch.full((200_000,), value)
    found = rounded(exact, dtype, seed=1).double()
    neighbours = found.unique()
    assert len(neighbours) <= 2
    assert neighbours.min() <= exact[0] <= neighbours.max()
    gap = float(neighbours.max() - neighbours.min())
    assert float(found.mean() - exact[0].double()) == pytest.approx(0, abs=gap / 100 + 1e-12)


@settings(deadline=None, max_examples=100)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    dtype=st.sampled_from(NARROW),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_of_the_format_stay_and_others_move_to_a_neighbour(
    values: list[float], dtype: torch.dtype, seed: int
) -> None:
    exact = torch.tensor(values)
    known = exact.to(dtype)
    assert torch.equal(rounded(known.float(), dtype, seed=seed), known)
    found = rounded(exact, dtype, seed=seed)
    assert torch.equal(found, rounded(exact, dtype, seed=seed))
    # No nearer to another value of the format than to the two around it.
    distance = (found.double() - exact.double()).abs()
    info = torch.finfo(dtype)
    assert bool((distance <= exact.abs() * info.eps + info.tiny * info.eps).all())


@pytest.mark.parametrize(
    ("given_dtype", "asked"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_more_bits_lose_nothing(given_dtype: torch.dtype, asked: torch.dtype) -> None:
    exact = torch.randn(1000).to(given_dtype)
    found = rounded(exact, asked, seed=0)
    assert found.dtype == asked and torch.equal(found.double(), exact.double())


def test_bf16_values_that_fp16_has_not_are_rounded_too() -> None:
    exact = torch.full((100_000,), 2.0**-26 * 1.5, dtype=torch.bfloat16)
    found = rounded(exact, torch.float16, seed=0)
    assert float(found.double().mean()) == pytest.approx(float(exact[0]), rel=0.05)


def weights() -> tuple[torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    return (0.02 * torch.randn(512, 512, generator=generator)).bfloat16().float(), generator


@pytest.mark.parametrize("size", [1e-8, 1e-7, 1e-6, 1e-5, 1e-3])
def test_a_change_arrives_however_small_and_its_loss_is_noticed(size: float) -> None:
    base, generator = weights()
    change = size * torch.randn(base.shape, generator=generator)
    exact = base + change
    sent = rounded(exact, torch.bfloat16, seed=3)
    arrived = ChangeArrived()
    arrived.add(change, exact, sent)
    arrived.check(4)
    if size <= 1e-6:
        lost = ChangeArrived()
        lost.add(change, exact, exact.bfloat16())  # to the nearest, as it was
        with pytest.raises(WeightSyncError, match="at version 4; set rollout"):
            lost.check(4)


def test_adapters_that_have_learned_nothing_lose_nothing() -> None:
    base, _ = weights()
    arrived = ChangeArrived()
    arrived.add(torch.zeros_like(base), base, rounded(base, torch.bfloat16, seed=0))
    arrived.check(0)
