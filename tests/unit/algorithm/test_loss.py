"""Loss values and gradients by hand; sums that do not depend on the cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.algorithm.loss import (
    KL_ESTIMATES,
    LossSums,
    TokenBatch,
    cispo_objective,
    clipped_objective,
    importance_weights,
    log_ratios,
    loss_divisor,
    policy_loss,
)
from t2g_ray.config import AlgorithmConfig

ALGORITHM = AlgorithmConfig(clip_low=0.2, clip_high=0.28, importance_cap=2.0)
SUMS = ("loss", "entropy", "kl", "mismatch_kl", "mismatch", "clipped", "truncated")
SUMS += ("current_mismatch", "num_current")


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def batch(
    logprobs: torch.Tensor, *, sample_of: Sequence[int] | None = None, **of: Any
) -> TokenBatch:
    """Tokens of one sample, on policy and without a reference, where nothing else is said."""
    zeros = torch.zeros_like(logprobs.detach())
    fields: dict[str, Any] = {
        "logprobs": logprobs,
        "entropies": zeros,
        "old_logprobs": logprobs.detach(),
        "reference_logprobs": None,
        "advantages": zeros + 1,
        "sample_of": torch.tensor(sample_of or [0] * len(zeros)),
        "is_current": torch.ones(len(zeros), dtype=torch.bool),
        **of,
    }
    return TokenBatch(**{"sampler_logprobs": fields["old_logprobs"], **fields})


def gradient(loss: torch.Tensor, leaf: torch.Tensor) -> list[float]:
    loss.backward()
    assert leaf.grad is not None
    return leaf.grad.tolist()


def test_the_clip_bounds_gains_on_both_sides_and_never_losses() -> None:
    ratios = tensor(1.5, 0.5, 1.5, 0.5, 1.1)
    logprobs = ratios.log().requires_grad_()
    tokens = batch(logprobs, advantages=tensor(1, 1, -1, -1, 2))
    objective, is_clipped = clipped_objective(logprobs, tokens, ALGORITHM)
    assert objective.tolist() == pytest.approx([1.28, 0.5, -1.5, -0.8, 2.2])
    assert is_clipped.tolist() == [True, False, False, True, False]
    # d(r A) / d log p = r A where it is free, nothing where it is clipped.
    assert gradient(objective.sum(), logprobs) == pytest.approx([0.0, 0.5, -1.5, 0.0, 2.2])


def test_cispo_bounds_the_weight_of_a_token_and_keeps_its_gradient() -> None:
    logprobs = tensor(1.5, 0.5, 1.5).log().requires_grad_()
    tokens = batch(logprobs, advantages=tensor(1, 1, -1))
    objective, is_clipped = cispo_objective(logprobs, tokens, ALGORITHM)
    assert objective.tolist() == pytest.approx(
        [1.28 * math.log(1.5), 0.5 * math.log(0.5), -1.28 * math.log(1.5)]
    )
    assert is_clipped.tolist() == [True, False, True]
    assert gradient(objective.sum(), logprobs) == pytest.approx([1.28, 0.5, -1.28])


def test_the_ratio_of_a_sequence_is_the_mean_over_its_tokens() -> None:
    logprobs = tensor(0.5, 0.1, 0.9, -0.2).requires_grad_()
    tokens = batch(logprobs, old_logprobs=tensor(0.0, 0.0, 0.0, 0.0), sample_of=[0, 1, 0, 0])
    assert log_ratios(tokens, level="token").tolist() == pytest.approx([0.5, 0.1, 0.9, -0.2])
    ratios = log_ratios(tokens, level="sequence")
    assert ratios.tolist() == pytest.approx([0.4, 0.1, 0.4, 0.4])
    # Each of the three tokens moves all three ratios by a third.
    assert gradient(ratios.sum(), logprobs) == pytest.approx([1.0, 1.0, 1.0, 1.0])


def test_on_policy_tokens_weigh_one_and_the_gradient_is_minus_the_advantage() -> None:
    logprobs = tensor(-0.5, -1.0, -2.0).requires_grad_()
    tokens = batch(logprobs, entropies=tensor(0.1, 0.2, 0.3), advantages=tensor(1.0, -2.0, 0.5))
    sums = policy_loss(tokens, ALGORITHM)
    assert sums.loss.item() == pytest.approx(0.5)
    assert sums.entropy.item() == pytest.approx(0.6)
    assert (sums.mismatch_kl.item(), sums.clipped.item(), sums.truncated.item()) == (0, 0, 0)
    assert (sums.mismatch.item(), sums.max_ratio.item(), sums.kl.item()) == (0, 1, 0)
    # Descent raises the log-prob of what did better than its group and lowers the rest.
    assert gradient(sums.loss, logprobs) == pytest.approx([-1.0, 2.0, -0.5])


def test_tokens_of_an_older_policy_are_weighted_and_the_weight_is_capped() -> None:
    sampler = tensor(-1.0, -1.0, -1.0)
    logprobs = (sampler + tensor(3.0, 0.5, 1.0).log()).requires_grad_()
    tokens = batch(logprobs, sampler_logprobs=sampler, advantages=tensor(1.0, 1.0, -1.0))
    weights, is_bounded = importance_weights(tokens, ALGORITHM)
    assert weights.tolist() == pytest.approx([2.0, 0.5, 1.0])
    assert is_bounded.tolist() == [True, False, False]
    sums = policy_loss(tokens, ALGORITHM)
    assert sums.loss.item() == pytest.approx(-(2.0 + 0.5 - 1.0))
    assert sums.truncated.item() == 1.0
    assert sums.mismatch_kl.item() == pytest.approx(
        (3 - 1 - math.log(3)) + (0.5 - 1 - math.log(0.5)) + 0.0
    )
    assert sums.mismatch.item() == pytest.approx(math.log(3) + math.log(2))
    assert sums.max_ratio.item() == pytest.approx(3.0)
    # The weight itself carries no gradient.
    assert gradient(sums.loss, logprobs) == pytest.approx([-2.0, -0.5, 1.0])


@pytest.mark.parametrize(
    ("kind", "level", "expected", "num_bounded"),
    [
        ("truncate", "token", [2.0, 0.4, 1.0, 1.5], 1),
        ("mask", "token", [0.0, 0.0, 1.0, 1.5], 2),
        ("none", "token", [1.0, 1.0, 1.0, 1.0], 0),
        # Products: 3 x 0.4 x 1 = 1.2 of the first sample, 1.5 of the second.
        ("truncate", "sequence", [1.2, 1.2, 1.2, 1.5], 0),
        ("mask", "sequence", [1.2, 1.2, 1.2, 1.5], 0),
    ],
)
def test_importance_weights_are_truncated_masked_or_left_out(
    kind: Any, level: Any, expected: list[float], num_bounded: int
) -> None:
    algorithm = AlgorithmConfig(importance=kind, importance_level=level, importance_cap=2.0)
    tokens = batch(
        tensor(3.0, 0.4, 1.0, 1.5).log(),
        sampler_logprobs=tensor(0, 0, 0, 0),
        sample_of=[0, 0, 0, 1],
    )
    weights, is_bounded = importance_weights(tokens, algorithm)
    assert weights.tolist() == pytest.approx(expected)
    assert int(is_bounded.sum()) == num_bounded


def test_a_sample_outside_the_band_is_masked_whole() -> None:
    algorithm = AlgorithmConfig(importance="mask", importance_level="sequence", importance_cap=2.0)
    tokens = batch(
        tensor(1.5, 1.5, 1.1).log(), sampler_logprobs=tensor(0, 0, 0), sample_of=[0, 0, 1]
    )
    weights, is_bounded = importance_weights(tokens, algorithm)
    assert weights.tolist() == pytest.approx([0.0, 0.0, 1.1])
    assert is_bounded.tolist() == [True, True, False]


def test_tokens_of_the_present_weights_are_compared_apart() -> None:
    tokens = batch(
        tensor(-1.0, -1.0, -1.0),
        sampler_logprobs=tensor(-1.25, -1.0, 2.0),
        is_current=torch.tensor([True, True, False]),
    )
    sums = policy_loss(tokens, ALGORITHM)
    assert (sums.current_mismatch.item(), sums.num_current.item()) == (0.25, 2)
    assert sums.mismatch.item() == 3.25


def test_the_largest_ratio_is_seen_either_way_up() -> None:
    tokens = batch(tensor(-3.0), sampler_logprobs=tensor(-1.0))
    assert policy_loss(tokens, ALGORITHM).max_ratio.item() == pytest.approx(math.exp(2))


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [("k1", 0.5, 1.0), ("k2", 0.125, 0.5), ("k3", math.exp(-0.5) - 0.5, 1 - math.exp(-0.5))],
)
def test_estimates_of_the_kl_by_hand(name: str, value: float, slope: float) -> None:
    logprobs = tensor(-1.0).requires_grad_()
    estimate = KL_ESTIMATES[name](logprobs, tensor(-1.5))
    assert estimate.item() == pytest.approx(value)
    assert gradient(estimate.sum(), logprobs) == pytest.approx([slope])


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_an_unbiased_estimate_has_the_gradient_of_the_kl_itself(name: Any) -> None:
    # Two words with probabilities p and 1 - p, against q and 1 - q; each is one drawn token.
    logit = tensor(0.4).requires_grad_()
    logprobs = torch.cat([torch.nn.functional.logsigmoid(sign * logit) for sign in (1, -1)])
    other = tensor(0.3, 0.7).log()
    exact = (logprobs.exp() * (logprobs - other)).sum()
    (expected,) = torch.autograd.grad(exact, logit, retain_graph=True)
    algorithm = AlgorithmConfig(kl_coef=1.0, kl_estimator=name, kl_unbiased=True)
    slopes = []
    for word in (0, 1):
        part = slice(word, word + 1)
        tokens = batch(logprobs[part], reference_logprobs=other[part], advantages=tensor(0.0))
        (slope,) = torch.autograd.grad(
            policy_loss(tokens, algorithm).loss, logit, retain_graph=True
        )
        slopes.append(logprobs[word].exp().item() * slope.item())
    assert sum(slopes) == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("normalisation", "loss", "divisor"),
    [
        # Samples of 3 tokens and 1 token, on policy with advantages 1 and -4.
        ("tokens", -3.0 + 4.0, 4),
        ("sequences", -1.0 + 4.0, 2),
        ("constant", -3.0 + 4.0, 2 * 10),
    ],
)
def test_each_normalisation_weighs_long_and_short_answers_its_way(
    normalisation: Any, loss: float, divisor: float
) -> None:
    algorithm = AlgorithmConfig(normalisation=normalisation)
    tokens = batch(tensor(-1, -1, -1, -1), advantages=tensor(1, 1, 1, -4), sample_of=[0, 0, 0, 1])
    assert policy_loss(tokens, algorithm).loss.item() == pytest.approx(loss)
    assert loss_divisor([3, 1], algorithm, 10) == divisor


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(1, 3)),
    algorithm=st.builds(
        AlgorithmConfig,
        objective=st.sampled_from(["clip", "cispo"]),
        ratio=st.sampled_from(["token", "sequence"]),
        normalisation=st.sampled_from(["tokens", "sequences", "constant"]),
        importance=st.sampled_from(["truncate", "mask", "none"]),
        importance_level=st.sampled_from(["token", "sequence"]),
        kl_coef=st.just(0.5),
        kl_estimator=st.sampled_from(["k1", "k2", "k3"]),
        kl_unbiased=st.booleans(),
        entropy_coef=st.sampled_from([0.0, 0.5]),
    ),
)
def test_sums_and_gradients_do_not_depend_on_the_cut(
    seed: int, cuts: set[int], algorithm: AlgorithmConfig
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(6, 12, generator=generator, dtype=torch.float64)
    sample_of = torch.tensor([0] * 2 + [1] * 5 + [2] * 1 + [3] * 4)
    is_current = rows[0] > 0

    def sums_of(first: int, last: int) -> tuple[LossSums, torch.Tensor]:
        part = (sample_of >= first) & (sample_of < last)
        names = ("old_logprobs", "sampler_logprobs", "reference_logprobs", "advantages")
        leaf = rows[0][part].clone().requires_grad_()
        fields = dict(zip(names, rows[2:, part], strict=True))
        tokens = TokenBatch(
            logprobs=leaf,
            entropies=rows[1][part],
            sample_of=sample_of[part] - first,
            is_current=is_current[part],
            **fields,
        )
        sums = policy_loss(tokens, algorithm)
        sums.loss.backward()
        assert leaf.grad is not None
        return sums, leaf.grad

    whole, expected = sums_of(0, 4)
    edges = [0, *sorted(cuts), 4]
    parts = [sums_of(a, b) for a, b in itertools.pairwise(edges)]
    for name in SUMS:
        total = sum(getattr(sums, name).item() for sums, _ in parts)
        assert total == pytest.approx(getattr(whole, name).item(), rel=1e-9, abs=1e-9), name
    assert max(s.max_ratio.item() for s, _ in parts) == pytest.approx(whole.max_ratio.item())
    assert torch.allclose(torch.cat([g for _, g in parts]), expected, rtol=1e-9, atol=1e-9)
