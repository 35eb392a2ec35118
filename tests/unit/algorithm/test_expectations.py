"""The loss under every completion there is, weighted by the policy that wrote it, against the
gradient of what it estimates, which is computed from whole distributions and no samples.

Three words, of which word 0 ends a completion, and at most three of them: 15 completions. Four
policies with a table of logits each: mu wrote, pi_old was before the first update, pi is trained,
pi_0 is the reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.algorithm.loss import TokenBatch, policy_loss
from t2g_ray.config import AlgorithmConfig

WORDS, LONGEST, END = 3, 3, 0
Words = tuple[int, ...]


def completions(prefix: Words = ()) -> Iterator[Words]:
    """Every completion that begins like this."""
    if len(prefix) == LONGEST or (prefix and prefix[-1] == END):
        yield prefix
        return
    for word in range(WORDS):
        yield from completions((*prefix, word))


COMPLETIONS = list(completions())
PREFIXES = sorted({whole[:n] for whole in COMPLETIONS for n in range(len(whole))})
ROWS = {prefix: row for row, prefix in enumerate(PREFIXES)}


@dataclass(frozen=True)
class World:
    """Logits [prefixes, words] of each policy, and an advantage for each completion."""

    mu: torch.Tensor
    old: torch.Tensor
    pi: torch.Tensor
    reference: torch.Tensor
    advantages: dict[Words, float]


def world(seed: int, *, is_first_update: bool, has_rewards: bool = True) -> World:
    """Policies that are about 0.3 apart. Without rewards, penalties alone have a gradient."""
    generator = torch.Generator().manual_seed(seed)

    def near(logits: torch.Tensor) -> torch.Tensor:
        return logits + 0.3 * torch.randn(logits.shape, generator=generator).double()

    old = torch.randn(len(PREFIXES), WORDS, generator=generator).double()
    pi = old.clone() if is_first_update else near(old)
    values = (has_rewards * torch.randn(len(COMPLETIONS), generator=generator)).tolist()
    return World(
        near(old), old, pi.requires_grad_(), near(old), dict(zip(COMPLETIONS, values, strict=True))
    )


def logprobs(logits: torch.Tensor, words: Words) -> torch.Tensor:
    """Of each word of a completion, [T]."""
    rows = [ROWS[words[:n]] for n in range(len(words))]
    return logits.log_softmax(-1)[rows, list(words)]


def probability(logits: torch.Tensor, words: Words) -> float:
    return float(logprobs(logits, words).sum().exp())


def expected_gradient(one: World, algorithm: AlgorithmConfig) -> torch.Tensor:
    """Mean over mu's completions of the gradient of `policy_loss`, [prefixes, words]."""
    loss = torch.zeros((), dtype=torch.float64)
    distributions = one.pi.log_softmax(-1)
    entropies = -(distributions.exp() * distributions).sum(-1)
    for words in COMPLETIONS:
        tokens = TokenBatch(
            logprobs=logprobs(one.pi, words),
            entropies=entropies[[ROWS[words[:n]] for n in range(len(words))]],
            old_logprobs=logprobs(one.old, words),
            sampler_logprobs=logprobs(one.mu, words),
            reference_logprobs=logprobs(one.reference, words) if algorithm.kl_coef else None,
            advantages=torch.full((len(words),), one.advantages[words], dtype=torch.float64),
            sample_of=torch.zeros(len(words), dtype=torch.long),
            is_current=torch.ones(len(words), dtype=torch.bool),
        )
        loss = loss + probability(one.mu, words) * policy_loss(tokens, algorithm).loss
    return torch.autograd.grad(loss, one.pi)[0]


Target = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""log pi and log pi_0 [prefixes, words] -> a value for each prefix."""


def forward_kl(pi: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (pi.exp() * (pi - other)).sum(-1)


def backward_kl(pi: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (other.exp() * (other - pi)).sum(-1)


def nothing(pi: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (0 * pi * other).sum(-1)


def mean_square(pi: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (pi.exp() * (pi - other) ** 2 / 2).sum(-1)


def entropy(pi: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return -(pi.exp() * pi).sum(-1)


KL_TARGETS: dict[tuple[str, bool], Target] = {
    ("k1", True): forward_kl,
    ("k2", True): mean_square,
    ("k3", True): forward_kl,
    # As losses: the first has no gradient, the second that of KL(pi | pi_0), the third that of
    # KL(pi_0 | pi).
    ("k1", False): nothing,
    ("k2", False): forward_kl,
    ("k3", False): backward_kl,
}


def gradient_over_prefixes(one: World, writer: torch.Tensor, target: Target) -> torch.Tensor:
    """Gradient of the target, summed over the prefixes of a completion that `writer` writes."""
    weights = torch.tensor([probability(writer, p) for p in PREFIXES], dtype=torch.float64)
    values = target(one.pi.log_softmax(-1), one.reference.log_softmax(-1))
    return torch.autograd.grad((weights * values).sum(), one.pi)[0]


def writer_of_prefixes(one: World, level: str) -> torch.Tensor:
    return one.mu if level == "token" else one.old


def unbounded(**parts: Any) -> AlgorithmConfig:
    """Bounds that never act, so that expectations are exact; what is weighed is `parts`."""
    return AlgorithmConfig.model_validate(
        {"importance_cap": 1e9, "clip_low": 1 - 1e-9, "clip_high": 1e9, **parts}
    )


def is_same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool(torch.allclose(found, expected, rtol=1e-6, atol=1e-7))


LEVELS = ("token", "sequence")
RATIOS = ("token", "sequence")
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("is_first_update", [True, False])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("estimator", "is_unbiased"), KL_TARGETS)
@settings(deadline=None, max_examples=2)
@given(seed=seeds)
def test_each_kl_penalty_has_the_gradient_of_its_divergence_whoever_wrote_the_tokens(
    seed: int, estimator: str, is_unbiased: bool, ratio: str, level: str, is_first_update: bool
) -> None:
    one = world(seed, is_first_update=is_first_update, has_rewards=False)
    kl = {"kl_coef": 1.0, "kl_estimator": estimator, "kl_unbiased": is_unbiased}
    found = expected_gradient(one, unbounded(ratio=ratio, importance_level=level, **kl))
    target = KL_TARGETS[estimator, is_unbiased]
    assert is_same(found, gradient_over_prefixes(one, writer_of_prefixes(one, level), target))


@pytest.mark.parametrize("is_first_update", [True, False])
@pytest.mark.parametrize("level", LEVELS)
@settings(deadline=None, max_examples=4)
@given(seed=seeds)
def test_the_entropy_bonus_has_the_gradient_of_the_entropy_whoever_wrote_the_tokens(
    seed: int, level: str, is_first_update: bool
) -> None:
    one = world(seed, is_first_update=is_first_update, has_rewards=False)
    found = expected_gradient(one, unbounded(importance_level=level, entropy_coef=1.0))
    assert is_same(-found, gradient_over_prefixes(one, writer_of_prefixes(one, level), entropy))


@pytest.mark.parametrize("objective", ["clip", "cispo"])
@settings(deadline=None, max_examples=4)
@given(seed=seeds)
def test_weights_of_whole_completions_make_the_first_update_the_policy_gradient(
    seed: int, objective: str
) -> None:
    one = world(seed, is_first_update=True)
    value = sum(
        logprobs(one.pi, words).sum().exp() * advantage
        for words, advantage in one.advantages.items()
    )
    assert isinstance(value, torch.Tensor)
    (expected,) = torch.autograd.grad(-value, one.pi)
    for ratio in RATIOS:
        parts = {"objective": objective, "ratio": ratio, "importance_level": "sequence"}
        assert is_same(expected_gradient(one, unbounded(**parts)), expected)


def bounded_gradient(one: World, algorithm: AlgorithmConfig) -> torch.Tensor:
    """The equations of docs/algorithms.md, written down once more, over all completions."""
    total = torch.zeros((), dtype=torch.float64)
    for words, advantage in one.advantages.items():
        pi, old, mu = (logprobs(policy, words) for policy in (one.pi, one.old, one.mu))
        other = logprobs(one.reference, words)
        v = (old - mu).exp()
        v = v if algorithm.importance_level == "token" else v.prod().expand_as(v)
        cap = algorithm.importance_cap
        inside = (v <= cap) & (v >= 1 / cap)
        w = {
            "none": torch.ones_like(v),
            "truncate": v.clamp(max=cap),
            "mask": torch.where(inside, v, 0.0),
        }[algorithm.importance]
        r = (pi - old).exp()
        bound = (1 - algorithm.clip_low, 1 + algorithm.clip_high)
        s = r if algorithm.ratio == "token" else (pi - old).mean().exp().expand_as(r)
        if algorithm.objective == "cispo":
            j = s.detach().clamp(max=bound[1]) * advantage * pi
        elif algorithm.ratio == "token":
            j = torch.minimum(r * advantage, r.clamp(*bound) * advantage)
        else:  # GSPO-token: the ratio's value, the token's own gradient
            s = s.detach() * (pi - pi.detach()).exp()
            j = torch.minimum(s * advantage, s.clamp(*bound) * advantage)
        d = pi - other
        k = {"k1": d, "k2": d**2 / 2, "k3": (-d).exp() - 1 + d}[algorithm.kl_estimator]
        k = (r if algorithm.kl_unbiased else r.detach()) * k
        rows = [ROWS[words[:n]] for n in range(len(words))]
        log_p = one.pi.log_softmax(-1)[rows]
        h = -(log_p.exp() * log_p).sum(-1)
        u = w if algorithm.importance_level == "sequence" else torch.ones_like(w)
        share = 1 / len(words) if algorithm.normalisation == "sequences" else 1.0
        loss = -w * j + algorithm.kl_coef * w * k - algorithm.entropy_coef * u * h
        total = total + probability(one.mu, words) * share * loss.sum()
    return torch.autograd.grad(total, one.pi)[0]


ALL_PARTS = [
    dict(zip(("objective", "ratio", "importance", "importance_level"), parts, strict=True))
    for parts in itertools.product(("clip", "cispo"), RATIOS, ("truncate", "mask", "none"), LEVELS)
]


@pytest.mark.parametrize("parts", ALL_PARTS, ids=lambda parts: "-".join(parts.values()))
@settings(deadline=None, max_examples=2)
@given(
    seed=seeds,
    estimator=st.sampled_from(["k1", "k2", "k3"]),
    is_unbiased=st.booleans(),
    normalisation=st.sampled_from(["tokens", "sequences", "constant"]),
)
def test_bounded_terms_have_the_gradient_of_the_documented_form(
    parts: dict[str, str], seed: int, estimator: str, is_unbiased: bool, normalisation: str
) -> None:
    one = world(seed, is_first_update=False)
    algorithm = AlgorithmConfig.model_validate(
        {
            **parts,
            "importance_cap": 1.2,
            "clip_low": 0.1,
            "clip_high": 0.15,
            "kl_coef": 0.7,
            "kl_estimator": estimator,
            "kl_unbiased": is_unbiased,
            "entropy_coef": 0.3,
            "normalisation": normalisation,
        }
    )
    assert is_same(expected_gradient(one, algorithm), bounded_gradient(one, algorithm))


@settings(deadline=None, max_examples=4)
@given(seed=seeds)
def test_an_uneven_correction_weighs_each_tokens_own_gradient(seed: int) -> None:
    one = world(seed, is_first_update=True)
    # A whole completion as one ratio, each token corrected by itself: as with ratios of tokens.
    by_token, by_sequence = (
        expected_gradient(one, unbounded(ratio=ratio, importance_level="token")) for ratio in RATIOS
    )
    assert is_same(by_sequence, by_token)
