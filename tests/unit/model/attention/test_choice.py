"""Which kernel computes where, and why none does."""

from __future__ import annotations

import pytest
import torch

from t2g_ray.model.attention import choice
from t2g_ray.model.attention.choice import NoKernelError, kernel_for
from t2g_ray.model.attention.flash import TorchFlash
from t2g_ray.model.attention.reference import ReferenceKernel

CUDA = torch.device("cuda:0")


def test_a_cpu_computes_the_definition_in_any_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert isinstance(kernel_for(torch.device("cpu"), dtype, 7), ReferenceKernel)


@pytest.mark.parametrize(
    ("device", "dtype", "size", "reason"),
    [
        (CUDA, torch.float32, 64, "computes in bfloat16, and learner.dtype is float32"),
        (CUDA, torch.bfloat16, 20, "heads of 20 are no multiple of 8 up to 256"),
        (CUDA, torch.bfloat16, 512, "heads of 512 are no multiple of 8 up to 256"),
        (torch.device("meta"), torch.bfloat16, 64, "the device is meta"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(
    device: torch.device, dtype: torch.dtype, size: int, reason: str
) -> None:
    with pytest.raises(NoKernelError, match=rf"{reason}.*; set learner.attention=padded"):
        kernel_for(device, dtype, size)


def test_a_gpu_without_kernels_is_refused_with_their_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(_: torch.device) -> TorchFlash:
        raise LookupError("this torch was built without flash attention")

    monkeypatch.setattr(choice, "flash_kernel", none)
    kernel_for.cache_clear()
    with pytest.raises(NoKernelError, match="found that this torch was built without"):
        kernel_for(CUDA, torch.bfloat16, 64)


def test_a_gpu_in_half_precision_computes_with_the_kernels_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "flash_kernel", lambda _: TorchFlash())
    kernel_for.cache_clear()
    assert isinstance(kernel_for(CUDA, torch.bfloat16, 64), TorchFlash)
    kernel_for.cache_clear()
