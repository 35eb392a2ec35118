"""A device, a dtype and a head size -> the kernel that computes attention there."""

from __future__ import annotations

from functools import cache

import torch

from t2g_ray.model.attention.flash import HEAD_SIZE_STEP, MAX_HEAD_SIZE, flash_kernel
from t2g_ray.model.attention.kernel import Kernel
from t2g_ray.model.attention.reference import ReferenceKernel

HALF = (torch.bfloat16, torch.float16)


class NoKernelError(ValueError):
    """Attention without padding cannot be computed, or came out wrong."""


def no_kernel(found: str) -> NoKernelError:
    """The error that says what was found in place of a kernel, and what to do."""
    return NoKernelError(
        f"learner.attention=varlen needs a kernel that computes it right, found that {found}; set "
        "learner.attention=padded"
    )


@cache
def kernel_for(device: torch.device, dtype: torch.dtype, head_size: int) -> Kernel:
    """Raises NoKernelError with the reason where none computes this."""
    if device.type == "cpu":
        return ReferenceKernel()
    if device.type != "cuda":
        raise no_kernel(f"the device is {device.type}, and kernels are for cuda and cpu")
    if dtype not in HALF:
        name = str(dtype).removeprefix("torch.")
        raise no_kernel(f"flash attention computes in bfloat16, and learner.dtype is {name}")
    if head_size > MAX_HEAD_SIZE or head_size % HEAD_SIZE_STEP:
        raise no_kernel(
            f"heads of {head_size} are no multiple of {HEAD_SIZE_STEP} up to {MAX_HEAD_SIZE}"
        )
    try:
        return flash_kernel(device)
    except LookupError as reason:
        raise no_kernel(str(reason)) from reason
