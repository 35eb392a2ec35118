"""A row of segments, each with its prefix -> attention, from two calls of a kernel.

Each segment reads its own tokens (causal), and the tokens of its prefix (all of them). The queries
of all segments that continue one prefix meet it as one sequence, so its keys are read once for all
of them. The two parts are merged by their log-sum-exps; each part's backward pass is given the
merged output and log-sum-exp, as in ring attention (Liu et al. 2023, arXiv:2310.01889).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from t2g_ray.model.attention.kernel import Kernel, Lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The part in which segments read their prefixes."""

    queries: torch.Tensor
    """[Q] places in the row of the tokens that have a prefix, none twice."""
    keys: torch.Tensor
    """[J] places in the row of the prefixes' tokens."""
    lengths: Lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """All that attention without padding needs of a row."""

    own: Lengths
    """Segments in the order of the row, each reading itself."""
    shared: Shared | None
    """None where no segment has a prefix."""


def merged_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, ragged: Ragged, kernel: Kernel, scale: float
) -> torch.Tensor:
    """Queries [L, heads, dim], keys and values [L, key heads, dim] of a row -> [L, heads, dim]."""
    apply: Any = _Merged.apply
    out: torch.Tensor = apply(q, k, v, ragged, kernel, scale)
    return out


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        ragged: Ragged,
        kernel: Kernel,
        scale: float,
    ) -> torch.Tensor:
        out, lse = kernel.forward(q, k, v, ragged.own, scale)
        if (shared := ragged.shared) is not None:
            part, part_lse = kernel.forward(
                q[shared.queries], k[shared.keys], v[shared.keys], shared.lengths, scale
            )
            own_lse = lse[:, shared.queries]
            both = torch.logaddexp(own_lse, part_lse)
            share = (part_lse - both).exp().T[..., None]
            own = out[shared.queries].to(share.dtype)
            out[shared.queries] = torch.lerp(own, part.to(share.dtype), share).to(out.dtype)
            lse[:, shared.queries] = both
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.ragged, ctx.kernel, ctx.scale = ragged, kernel, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        ragged, kernel = ctx.ragged, ctx.kernel
        grad = grad.contiguous()
        dq, dk, dv = kernel.backward(grad, q, k, v, out, lse, ragged.own, ctx.scale)
        if (shared := ragged.shared) is not None:
            queries, keys = shared.queries, shared.keys
            part_q, part_k, part_v = kernel.backward(
                grad[queries],
                q[queries],
                k[keys],
                v[keys],
                out[queries],
                lse[:, queries],
                shared.lengths,
                ctx.scale,
            )
            dq.index_add_(0, queries, part_q)
            dk.index_add_(0, keys, part_k)
            dv.index_add_(0, keys, part_v)
        return dq, dk, dv, None, None, None
