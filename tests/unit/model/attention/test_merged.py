"""Attention merged of two parts against padded calls and their masks, over random rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from t2g_ray.model.attention.merged import merged_attention
from t2g_ray.model.attention.reference import ReferenceKernel
from t2g_ray.model.packed_attention import packed_attention, varlen_attention
from t2g_ray.model.packing import Packing, Segment

SIZE = 8
SCALE = 0.3


class Heads(nn.Module):
    """What padded attention reads of a layer."""

    def __init__(self, heads: int, key_heads: int) -> None:
        super().__init__()
        self.num_key_value_groups = heads // key_heads
        self.is_causal = True


@st.composite
def rows(draw: st.DrawFn) -> tuple[Segment, ...]:
    """Prompts with up to six answers each, texts without a prefix among them, in any order."""
    lengths = st.integers(1, 9) | st.just(1)
    prompts = draw(st.lists(lengths, min_size=1, max_size=4))
    wanted = [(length, -1) for length in prompts]
    for prompt in range(len(prompts)):
        wanted += [(n, prompt) for n in draw(st.lists(lengths, max_size=6))]
    starts, end = dict[int, int](), 0
    for place in draw(st.permutations(range(len(wanted)))):
        starts[place], end = end, end + wanted[place][0]
    return tuple(
        Segment(start=starts[place], length=length)
        if prompt < 0
        else Segment(
            start=starts[place],
            length=length,
            prefix_start=starts[prompt],
            prefix_length=prompts[prompt],
        )
        for place, (length, prompt) in enumerate(wanted)
    )


def states(num_tokens: int, heads: tuple[int, int]) -> list[torch.Tensor]:
    """Queries, keys and values as a layer gives them, [1, heads, L, dim]."""
    generator = torch.Generator().manual_seed(num_tokens)
    return [
        torch.randn(1, number, num_tokens, SIZE, generator=generator).requires_grad_()
        for number in (heads[0], heads[1], heads[1])
    ]


def assert_both_agree(segments: tuple[Segment, ...], heads: tuple[int, int]) -> None:
    packing = Packing(segments=segments)
    inputs = states(packing.position_ids.numel(), heads)
    results = []
    for attention in (packed_attention, varlen_attention):
        out, _ = attention(Heads(*heads), *inputs, None, packing=packing, scaling=SCALE)
        slopes = torch.linspace(-1, 2, out.numel()).view_as(out)
        results.append((out, *torch.autograd.grad(out, inputs, slopes)))
    for padded, varlen in zip(*results, strict=True):
        assert padded.shape == varlen.shape
        assert (padded - varlen).abs().max() <= 1e-5 * padded.abs().max().clamp(min=1)


@settings(deadline=None, max_examples=150)
@given(segments=rows(), heads=st.sampled_from([(2, 2), (4, 2), (6, 1)]))
def test_outputs_and_gradients_equal_those_of_padded_calls(
    segments: tuple[Segment, ...], heads: tuple[int, int]
) -> None:
    assert_both_agree(segments, heads)


def test_many_answers_of_one_token_share_a_prompt() -> None:
    prefix = {"prefix_start": 0, "prefix_length": 11}
    answers = (Segment(start=11 + i, length=1, **prefix) for i in range(40))
    assert_both_agree((Segment(start=0, length=11), *answers), (4, 2))


def test_a_row_without_prefixes_is_one_call() -> None:
    segments = (Segment(start=0, length=4), Segment(start=4, length=1))
    assert Packing(segments=segments).ragged.shared is None
    assert_both_agree(segments, (4, 4))


def test_the_gradient_is_that_of_differences_in_double_precision() -> None:
    prefix = {"prefix_start": 0, "prefix_length": 2}
    segments = (Segment(start=0, length=2), Segment(start=2, length=2, **prefix))
    ragged = Packing(segments=(*segments, Segment(start=4, length=1, **prefix))).ragged
    inputs = [x[0].transpose(0, 1).detach().double() for x in states(5, (2, 1))]
    assert torch.autograd.gradcheck(
        lambda q, k, v: merged_attention(q, k, v, ragged, ReferenceKernel(), SCALE),
        [x.requires_grad_() for x in inputs],
    )


@pytest.mark.parametrize("part", ["output", "log-sum-exp"])
def test_an_unmerged_backward_pass_would_be_seen(part: str) -> None:
    """The test above fails for a backward pass that is given what its part alone computed."""

    class Unmerged(ReferenceKernel):
        def backward(self, grad, q, k, v, out, lse, lengths, scale):  # type: ignore[no-untyped-def]
            own_out, own_lse = self.forward(q, k, v, lengths, scale)
            given = (own_out, lse) if part == "output" else (out, own_lse)
            return super().backward(grad, q, k, v, *given, lengths, scale)

    prefix = {"prefix_start": 0, "prefix_length": 2}
    ragged = Packing(
        segments=(Segment(start=0, length=2), Segment(start=2, length=3, **prefix))
    ).ragged
    q, k, v = (x[0].transpose(0, 1) for x in states(5, (2, 1)))
    gradients = [
        torch.autograd.grad(merged_attention(q, k, v, ragged, kernel, SCALE).square().sum(), q)[0]
        for kernel in (ReferenceKernel(), Unmerged())
    ]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-2
