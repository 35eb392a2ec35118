"""Attention by its definition in plain torch, one sequence after the other: exact and slow.

For any device and dtype. Other kernels are compared with it, and CPUs compute with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from t2g_ray.model.attention.kernel import Gradients, Lengths

Parts = tuple[slice, slice]
"""Queries and keys of one sequence."""


class ReferenceKernel:
    """`Kernel` by its definition."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernel`."""
        out = torch.empty_like(q)
        lse = torch.empty(q.shape[1::-1], dtype=_wide(q.dtype), device=q.device)
        for queries, keys in _sequences(lengths):
            scores = _scores(q[queries], k[keys], lengths, scale)
            sums = scores.logsumexp(-1)
            lse[:, queries] = sums.flatten(0, 1)
            p = (scores - sums[..., None]).exp()
            out[queries] = torch.einsum("hgqk,khd->qhgd", p, v[keys].to(p.dtype)).flatten(1, 2)
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
        """See `Kernel`. With scores s, p = exp(s - lse): ds = p (grad v - grad out), dv = p grad.

        Dao et al. 2022, "FlashAttention" (arXiv:2205.14135), appendix B.2.
        """
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for queries, keys in _sequences(lengths):
            p = _scores(q[queries], k[keys], lengths, scale)
            p = (p - lse[:, queries].unflatten(0, p.shape[:2])[..., None]).exp()
            own_k, own_v = k[keys].to(p.dtype), v[keys].to(p.dtype)
            own_grad = grad[queries].to(p.dtype).unflatten(1, p.shape[:2])
            own_q = q[queries].to(p.dtype).unflatten(1, p.shape[:2])
            dots = (own_grad * out[queries].to(p.dtype).unflatten(1, p.shape[:2])).sum(-1)
            dp = torch.einsum("qhgd,khd->hgqk", own_grad, own_v)
            ds = p * (dp - dots.permute(1, 2, 0)[..., None]) * scale
            dq[queries] = torch.einsum("hgqk,khd->qhgd", ds, own_k).flatten(1, 2).to(q.dtype)
            dk[keys] = torch.einsum("hgqk,qhgd->khd", ds, own_q).to(k.dtype)
            dv[keys] = torch.einsum("hgqk,qhgd->khd", p, own_grad).to(v.dtype)
        return dq, dk, dv


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _sequences(lengths: Lengths) -> Iterator[Parts]:
    queries, keys = lengths.query_offsets.tolist(), lengths.key_offsets.tolist()
    for i in range(len(queries) - 1):
        yield slice(queries[i], queries[i + 1]), slice(keys[i], keys[i + 1])


def _scores(q: torch.Tensor, k: torch.Tensor, lengths: Lengths, scale: float) -> torch.Tensor:
    """[key heads, heads a key head, queries, keys]; queries read their key head where it is."""
    wide = _wide(q.dtype)
    groups = q.to(wide).unflatten(1, (k.shape[1], -1))
    scores = torch.einsum("qhgd,khd->hgqk", groups, k.to(wide)) * scale
    if lengths.is_causal:
        hidden = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    return scores
