"""The definition against torch's own attention, and the contract of a kernel's backward pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from t2g_ray.model.attention.kernel import Lengths
from t2g_ray.model.attention.reference import ReferenceKernel

CPU = torch.device("cpu")
KERNEL = ReferenceKernel()
SCALE = 0.4


def drawn(
    num_queries: int,
    num_keys: int,
    heads: tuple[int, int] = (4, 2),
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(num_queries)
    shapes = [(num_queries, heads[0]), (num_keys, heads[1]), (num_keys, heads[1])]
    return tuple(torch.randn(*shape, 6, generator=generator).to(dtype) for shape in shapes)


def by_torch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
    """One sequence."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out = functional.scaled_dot_product_attention(
        q, k, v, is_causal=is_causal, scale=SCALE, enable_gqa=True
    )
    return out[0].transpose(0, 1)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("is_causal", [True, False])
def test_sequences_are_read_apart_with_the_outputs_and_gradients_of_torch(
    heads: tuple[int, int], is_causal: bool
) -> None:
    queries = (3, 1, 5)
    keys = queries if is_causal else (2, 4, 1)
    q, k, v = (x.requires_grad_() for x in drawn(sum(queries), sum(keys), heads))
    parts = zip(q.split(queries), k.split(keys), v.split(keys), strict=True)
    expected = torch.cat([by_torch(*part, is_causal=is_causal) for part in parts])
    slopes = torch.linspace(-1, 2, expected.numel(), dtype=q.dtype).view_as(expected)
    wanted = torch.autograd.grad(expected, (q, k, v), slopes)
    lengths = Lengths.of(queries, keys, is_causal=is_causal, device=CPU)
    with torch.no_grad():
        out, lse = KERNEL.forward(q, k, v, lengths, SCALE)
        found = KERNEL.backward(slopes, q, k, v, out, lse, lengths, SCALE)
    for mine, theirs in zip((out, *found), (expected, *wanted), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_the_log_sum_exp_is_that_of_the_scaled_scores_by_head_and_query() -> None:
    q, k, v = drawn(2, 3, heads=(4, 2))
    lengths = Lengths.of([2], [3], is_causal=False, device=CPU)
    _, lse = KERNEL.forward(q, k, v, lengths, SCALE)
    assert lse.shape == (4, 2)
    # Heads 2 and 3 share key head 1.
    scores = SCALE * (q[1, 3] @ k[:, 1].T)
    assert torch.allclose(lse[3, 1], scores.exp().sum().log(), rtol=0, atol=1e-12)


def test_given_the_output_of_more_keys_it_returns_its_own_keys_part_of_the_gradients() -> None:
    q, k, v = drawn(4, 5)
    slopes = torch.linspace(-1, 2, q.numel(), dtype=q.dtype).view_as(q)
    whole = Lengths.of([4], [5], is_causal=False, device=CPU)
    out, lse = KERNEL.forward(q, k, v, whole, SCALE)
    dq, dk, dv = KERNEL.backward(slopes, q, k, v, out, lse, whole, SCALE)
    parts = [
        KERNEL.backward(
            *(slopes, q, k[keys], v[keys], out, lse),
            Lengths.of([4], [num_keys], is_causal=False, device=CPU),
            SCALE,
        )
        for keys, num_keys in [(slice(0, 2), 2), (slice(2, 5), 3)]
    ]
    assert torch.allclose(parts[0][0] + parts[1][0], dq, rtol=0, atol=1e-12)
    assert torch.allclose(torch.cat([parts[0][1], parts[1][1]]), dk, rtol=0, atol=1e-12)
    assert torch.allclose(torch.cat([parts[0][2], parts[1][2]]), dv, rtol=0, atol=1e-12)


def test_bf16_is_computed_in_fp32_and_rounded_once() -> None:
    q, k, v = drawn(7, 7, dtype=torch.bfloat16)
    lengths = Lengths.of([7], [7], is_causal=True, device=CPU)
    out, lse = KERNEL.forward(q, k, v, lengths, SCALE)
    exact, _ = KERNEL.forward(q.double(), k.double(), v.double(), lengths, SCALE)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    assert torch.allclose(out.double(), exact, rtol=2**-8, atol=1e-6)
