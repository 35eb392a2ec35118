"""Flash attention's kernels against the definition, on the device they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from t2g_ray.model.attention.choice import kernel_for
from t2g_ray.model.attention.flash import FlashAttn, TorchFlash, flash_kernel
from t2g_ray.model.attention.kernel import Kernel
from t2g_ray.model.attention.proof import check_kernel

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU; none is visible here"
)
CUDA = torch.device("cuda", 0)


def kernels() -> list[Kernel]:
    """Torch's own, and flash-attn's where that is installed."""
    preferred = flash_kernel(CUDA)
    return [TorchFlash(), *([preferred] if isinstance(preferred, FlashAttn) else [])]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("heads", [(8, 8), (12, 2), (9, 3), (4, 1)])
@pytest.mark.parametrize("size", [32, 64, 80, 128, 256])
def test_outputs_and_gradients_are_those_of_the_definition(
    dtype: torch.dtype, heads: tuple[int, int], size: int
) -> None:
    for kernel in kernels():
        check_kernel(kernel, CUDA, dtype, heads=heads, size=size)


@pytest.mark.parametrize("answers", [(1,), (1, 1, 1), (300, 1, 17)])
def test_answers_of_any_length_equal_padded_calls(answers: tuple[int, ...]) -> None:
    from t2g_ray.model.packed_attention import packed_attention, varlen_attention
    from t2g_ray.model.packing import Packing, Segment

    starts = [40 + sum(answers[:i]) for i in range(len(answers))]
    segments = [Segment(start=0, length=40)]
    segments += [
        Segment(start=start, length=length, prefix_start=0, prefix_length=40)
        for start, length in zip(starts, answers, strict=True)
    ]
    packing = Packing(segments=tuple(segments)).to(CUDA)
    layer = torch.nn.Module()
    layer.num_key_value_groups = 3
    inputs = [
        torch.randn(1, n, 40 + sum(answers), 64, device=CUDA).bfloat16().requires_grad_()
        for n in (6, 2, 2)
    ]
    results = []
    for attention in (packed_attention, varlen_attention):
        out, _ = attention(layer, *inputs, None, packing=packing, scaling=0.125)
        results.append((out, *torch.autograd.grad(out, inputs, torch.ones_like(out))))
    for padded, varlen in zip(*results, strict=True):
        assert (padded - varlen).abs().max() <= 0.05 * padded.abs().max()


def test_a_whole_model_computes_the_log_probs_of_padded_attention() -> None:
    from t2g_ray.learner.batching import collate
    from t2g_ray.learner.logprobs import TokenLogProbs
    from t2g_ray.model.packed_attention import NAMES, enable_packing
    from t2g_ray.model.policy import build_tiny_policy
    from t2g_ray.records.corpus import build_tokenizer
    from t2g_ray.types import Example

    policy = build_tiny_policy(build_tokenizer(), seed=0).to("cuda", torch.bfloat16).eval()
    examples = [
        Example(group=0, prompt_ids=tuple(range(50)), completion_ids=np.arange(n, dtype=np.int32))
        for n in (60, 9, 2)
    ]
    micro = collate(examples, is_packed=True).to(CUDA)
    found = []
    for attention in NAMES:
        assert enable_packing(policy, attention) is None
        with torch.no_grad():
            found.append(TokenLogProbs(policy)(micro, 1.0)[0])
        policy.set_attn_implementation("sdpa")
    assert type(kernel_for(CUDA, torch.bfloat16, 32)) in (TorchFlash, FlashAttn)
    assert (found[0] - found[1]).abs().mean() < 0.05
