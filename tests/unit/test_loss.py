"""Loss values and gradients by hand; sums that do not depend on the cut."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.config import AlgorithmConfig
from t2g_ray.loss import LossSums, clipped_objective, importance_weights, policy_loss

ALGORITHM = AlgorithmConfig(clip_low=0.2, clip_high=0.28, importance_cap=2.0)
NAMES = ("loss", "entropy", "mismatch_kl", "clipped", "truncated")


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_clip_bounds_gains_on_both_sides_and_never_losses() -> None:
    ratios = tensor(1.5, 0.5, 1.5, 0.5, 1.1)
    logprobs = ratios.log().requires_grad_()
    objective, is_clipped = clipped_objective(
        logprobs, torch.zeros(5), tensor(1, 1, -1, -1, 2), clip_low=0.2, clip_high=0.28
    )
    assert objective.tolist() == pytest.approx([1.28, 0.5, -1.5, -0.8, 2.2])
    assert is_clipped.tolist() == [True, False, False, True, False]
    objective.sum().backward()
    # d(r A) / d log p = r A where it is free, nothing where it is clipped.
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.0, 0.5, -1.5, 0.0, 2.2])


def test_on_policy_tokens_weigh_one_and_the_gradient_is_minus_the_advantage() -> None:
    logprobs = tensor(-0.5, -1.0, -2.0).requires_grad_()
    sums = policy_loss(
        logprobs, tensor(0.1, 0.2, 0.3), logprobs.detach(), tensor(1.0, -2.0, 0.5), ALGORITHM
    )
    assert sums.loss.item() == pytest.approx(0.5)
    assert sums.entropy.item() == pytest.approx(0.6)
    assert (sums.mismatch_kl.item(), sums.clipped.item(), sums.truncated.item()) == (0, 0, 0)
    assert sums.max_ratio.item() == 1.0
    sums.loss.backward()
    # Descent raises the log-prob of what did better than its group and lowers the rest.
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-1.0, 2.0, -0.5])


def test_tokens_of_an_older_policy_are_weighted_and_the_weight_is_capped() -> None:
    sampler = tensor(-1.0, -1.0, -1.0)
    logprobs = (sampler + tensor(3.0, 0.5, 1.0).log()).requires_grad_()
    assert importance_weights(logprobs, sampler, cap=2.0).tolist() == pytest.approx([2.0, 0.5, 1.0])
    sums = policy_loss(logprobs, torch.zeros(3), sampler, tensor(1.0, 1.0, -1.0), ALGORITHM)
    assert sums.loss.item() == pytest.approx(-(2.0 + 0.5 - 1.0))
    assert sums.truncated.item() == 1.0
    assert sums.mismatch_kl.item() == pytest.approx(
        (3 - 1 - math.log(3)) + (0.5 - 1 - math.log(0.5)) + 0.0
    )
    assert sums.max_ratio.item() == pytest.approx(3.0)
    sums.loss.backward()
    # The weight itself carries no gradient.
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-2.0, -0.5, 1.0])


def test_the_largest_ratio_is_seen_either_way_up() -> None:
    sums = policy_loss(tensor(-3.0), tensor(0.0), tensor(-1.0), tensor(1.0), ALGORITHM)
    assert sums.max_ratio.item() == pytest.approx(math.exp(2))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pieces=st.integers(1, 6))
def test_sums_and_gradients_do_not_depend_on_the_cut(seed: int, pieces: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logprobs, entropies, sampler, advantages = torch.randn(
        4, 12, generator=generator, dtype=torch.float64
    )

    def sums_of(part: torch.Tensor) -> tuple[LossSums, torch.Tensor]:
        leaf = logprobs[part].clone().requires_grad_()
        sums = policy_loss(leaf, entropies[part], sampler[part], advantages[part], ALGORITHM)
        sums.loss.backward()
        assert leaf.grad is not None
        return sums, leaf.grad

    whole, gradient = sums_of(torch.arange(12))
    parts = [sums_of(part) for part in torch.arange(12).tensor_split(pieces)]
    for name in NAMES:
        total = sum(getattr(sums, name).item() for sums, _ in parts)
        assert total == pytest.approx(getattr(whole, name).item(), abs=1e-12)
    assert max(s.max_ratio.item() for s, _ in parts) == pytest.approx(whole.max_ratio.item())
    assert torch.allclose(torch.cat([g for _, g in parts]), gradient, rtol=0, atol=1e-12)
