"""What can be shown of flash attention's calls without a GPU: that torch takes them as they are.

On the device `meta` torch checks arguments and gives shapes, and computes nothing. The package
flash-attn is played by a module with its signatures, which computes by the definition.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from t2g_ray.model.attention import flash
from t2g_ray.model.attention.flash import FlashAttn, TorchFlash, flash_kernel
from t2g_ray.model.attention.kernel import Lengths
from t2g_ray.model.attention.proof import check_kernel
from t2g_ray.model.attention.reference import ReferenceKernel

META, CPU = torch.device("meta"), torch.device("cpu")


def test_torch_takes_the_calls_and_gives_the_shapes_of_a_kernel() -> None:
    lengths = Lengths.of([3, 1], [2, 5], is_causal=False, device=META)
    shapes = [(4, 6, 16), (7, 2, 16), (7, 2, 16)]
    q, k, v = (torch.empty(shape, dtype=torch.bfloat16, device=META) for shape in shapes)
    out, lse = TorchFlash().forward(q, k, v, lengths, 0.25)
    assert (out.shape, lse.shape, lse.dtype) == (q.shape, (6, 4), torch.float32)
    gradients = TorchFlash().backward(out, q, k, v, out, lse, lengths, 0.25)
    assert [x.shape for x in gradients] == [x.shape for x in (q, k, v)]


def _varlen_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int = -1,
    window_size_right: int = -1,
) -> tuple[torch.Tensor, ...]:
    assert dropout_p == 0.0
    assert min(max_seqlen_q, max_seqlen_k) > 0
    lengths = _lengths(cu_seqlens_q, cu_seqlens_k, causal)
    out, lse = ReferenceKernel().forward(q, k, v, lengths, softmax_scale)
    return out, lse, torch.empty(0), torch.empty(2)


def _varlen_backward(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax_lse: torch.Tensor,
    dq: torch.Tensor,
    dk: torch.Tensor,
    dv: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: torch.Tensor | None,
    deterministic: bool,
    rng_state: torch.Tensor | None = None,
) -> torch.Tensor:
    assert (window_size_left, window_size_right, softcap, alibi_slopes) == (-1, -1, 0.0, None)
    assert not deterministic
    lengths = _lengths(cu_seqlens_q, cu_seqlens_k, causal)
    found = ReferenceKernel().backward(dout, q, k, v, out, softmax_lse, lengths, softmax_scale)
    for into, gradient in zip((dq, dk, dv), found, strict=True):
        into.copy_(gradient)
    return torch.empty(0)


def _lengths(queries: torch.Tensor, keys: torch.Tensor, causal: bool) -> Lengths:
    sizes = [torch.diff(x).tolist() for x in (queries, keys)]
    return Lengths.of(*sizes, is_causal=causal, device=queries.device)


@pytest.fixture
def flash_attn(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("flash_attn"), ModuleType("flash_attn.flash_attn_interface")
    functions: dict[str, Any] = {
        "_flash_attn_varlen_forward": _varlen_forward,
        "_flash_attn_varlen_backward": _varlen_backward,
    }
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    monkeypatch.setitem(sys.modules, "flash_attn.flash_attn_interface", module)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


@pytest.mark.usefixtures("flash_attn")
def test_the_arguments_of_flash_attn_come_in_its_order() -> None:
    check_kernel(FlashAttn(), CPU, torch.float32, heads=(4, 2), size=16)


@pytest.mark.usefixtures("flash_attn")
@pytest.mark.parametrize(
    ("installed", "kind"), [("2.8.3", FlashAttn), ("2.7.4.post1", FlashAttn), ("2.6.3", TorchFlash)]
)
def test_flash_attn_is_taken_where_its_version_is_known(
    monkeypatch: pytest.MonkeyPatch, installed: str, kind: type
) -> None:
    monkeypatch.setattr(flash, "version", lambda _: installed)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    assert isinstance(flash_kernel(CPU), kind)


@pytest.mark.parametrize(
    ("capability", "reason"),
    [((7, 5), r"capability 8.0, found \(7, 5\)"), ((8, 0), "built without")],
)
def test_a_device_without_kernels_is_named(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    with pytest.raises(LookupError, match=reason):
        flash_kernel(CPU)


def test_one_query_a_sequence_is_called_with_a_bound_of_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = Lengths.of([1, 1], [4, 4], is_causal=False, device=CPU)
    *_, max_queries, max_keys = flash._sequences(lengths)
    assert (max_queries, max_keys) == (2, 4)
