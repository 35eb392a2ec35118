"""Flash attention's kernels on CUDA devices, as `Kernel`s. Not yet run on a GPU.

Two sources of the same kernels: torch's own (read in 2.13: torch/nn/attention/varlen.py), and the
package flash-attn from 2.7 on (flash_attn/flash_attn_interface.py). Both read key heads where they
are, take queries and keys whose last axis is contiguous, and give the log-sum-exp as [heads, Q] in
fp32.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from t2g_ray.model.attention.kernel import Gradients, Kernel, Lengths

MAX_HEAD_SIZE = 256
HEAD_SIZE_STEP = 8
"""Head sizes must be a multiple of it."""
MIN_CAPABILITY = (8, 0)
"""Ampere and later."""
_FIRST_FLASH_ATTN = (2, 7)
"""From here on the forward pass returns four tensors."""


class TorchFlash:
    """The kernels that torch brings."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernel`."""
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            q, k, v, *_sequences(lengths), 0.0, lengths.is_causal, False, scale=scale
        )
        return out, lse

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
        """See `Kernel`."""
        # Without dropout the kernel reads neither the state of random numbers nor its companion.
        state = torch.zeros(2, dtype=torch.uint64, device=q.device)
        unused = torch.empty(0, device=q.device)
        dq, dk, dv = torch.ops.aten._flash_attention_backward(
            *(grad, q, k, v, out, lse.contiguous(), *_sequences(lengths), 0.0),
            *(lengths.is_causal, state, unused),
            scale=scale,
        )
        return dq, dk, dv


class FlashAttn:
    """The kernels of the package flash-attn."""

    def __init__(self) -> None:
        self._module: Any = importlib.import_module("flash_attn.flash_attn_interface")

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernel`."""
        out, lse, *_ = self._module._flash_attn_varlen_forward(
            q, k, v, *_sequences(lengths), 0.0, scale, lengths.is_causal
        )
        return out, lse

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
        """See `Kernel`."""
        found = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        dq, dk, dv = found
        self._module._flash_attn_varlen_backward(
            *(grad, q, k, v, out, lse.contiguous(), dq, dk, dv, *_sequences(lengths), 0.0),
            *(scale, lengths.is_causal),
            window_size_left=-1,
            window_size_right=-1,
            softcap=0.0,
            alibi_slopes=None,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
        return dq, dk, dv


def _sequences(lengths: Lengths) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    # For one query a sequence the forward pass folds heads into queries, and lays out its
    # log-sum-exp in another order; a bound of two keeps it from that.
    max_queries = max(2, lengths.max_queries)
    return lengths.query_offsets, lengths.key_offsets, max_queries, lengths.max_keys


def flash_kernel(device: torch.device) -> Kernel:
    """The kernels there are, flash-attn's first.

    Raises LookupError with the reason where there are none for this device.
    """
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        raise LookupError(f"flash attention needs compute capability 8.0, found {capability}")
    if _has_flash_attn():
        return FlashAttn()
    if not torch.backends.cuda.is_flash_attention_available():
        raise LookupError("this torch was built without flash attention")
    return TorchFlash()


def _has_flash_attn() -> bool:
    try:
        major, minor = version("flash-attn").split(".")[:2]
        importlib.import_module("flash_attn.flash_attn_interface")
    except (PackageNotFoundError, ImportError):  # absent, or built for another torch
        return False
    return (int(major), int(minor)) >= _FIRST_FLASH_ATTN
