"""A kernel that computes something else is refused by name before anything trains with it."""

from __future__ import annotations

import pytest
import torch

from t2g_ray.model.attention.choice import NoKernelError
from t2g_ray.model.attention.kernel import Gradients, Lengths
from t2g_ray.model.attention.proof import check_kernel
from t2g_ray.model.attention.reference import ReferenceKernel

CPU = torch.device("cpu")


class _NotCausal(ReferenceKernel):
    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        offsets = lengths.query_offsets, lengths.key_offsets
        sizes = [torch.diff(x).tolist() for x in offsets]
        return super().forward(q, k, v, Lengths.of(*sizes, is_causal=False, device=q.device), scale)


class _OtherLogarithm(ReferenceKernel):
    """As some kernels keep it: in powers of two."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, lse = super().forward(q, k, v, lengths, scale)
        return out, lse / torch.log(torch.tensor(2.0))


class _NoGradientOfKeys(ReferenceKernel):
    def backward(
        self,
        grad: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        lengths: Lengths,
        scale: float,
    ) -> Gradients:
        dq, dk, dv = super().backward(grad, q, k, v, out, lse, lengths, scale)
        return dq, torch.zeros_like(dk), dv


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_definition_passes(dtype: torch.dtype) -> None:
    check_kernel(ReferenceKernel(), CPU, dtype, heads=(4, 2), size=16)


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (_NotCausal(), "output of _NotCausal differs by"),
        (_OtherLogarithm(), "output of _OtherLogarithm differs by"),
        (_NoGradientOfKeys(), "gradient of keys of _NoGradientOfKeys differs by 1 "),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_kernel_is_refused_with_what_to_do(
    kernel: ReferenceKernel, name: str, dtype: torch.dtype
) -> None:
    with pytest.raises(NoKernelError, match=rf"{name}.*set learner.attention=padded"):
        check_kernel(kernel, CPU, dtype, heads=(4, 2), size=16)
