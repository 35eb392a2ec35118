"""What computes attention over sequences of unlike length that lie one after the other.

Invariant: a kernel's backward pass takes the output and the log-sum-exp from outside. Given those
of attention over more keys than it sees itself, it returns its own keys' part of the gradients, so
that parts computed apart add up to attention over all keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of queries, keys and values, each of their shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Which queries meet which keys: those of sequence i lie between offsets i and i + 1."""

    query_offsets: torch.Tensor
    """[sequences + 1] int32, from 0 to Q."""
    key_offsets: torch.Tensor
    """[sequences + 1] int32, from 0 to J."""
    max_queries: int
    """Of one sequence."""
    max_keys: int
    is_causal: bool
    """The query at step t of a sequence sees the keys up to step t, else all of its sequence."""

    @classmethod
    def of(
        cls, queries: Sequence[int], keys: Sequence[int], *, is_causal: bool, device: torch.device
    ) -> Lengths:
        """Sequences of these numbers of queries and keys, each at least one."""
        return cls(
            query_offsets=_offsets(queries, device),
            key_offsets=_offsets(keys, device),
            max_queries=max(queries),
            max_keys=max(keys),
            is_causal=is_causal,
        )


def _offsets(counts: Sequence[int], device: torch.device) -> torch.Tensor:
    sums = [0, *itertools.accumulate(counts)]
    return torch.tensor(sums, dtype=torch.int32, device=device)


class Kernel(Protocol):
    """Attention of Q queries [Q, heads, dim] to J keys and values [J, key heads, dim].

    Heads are a multiple of key heads; each run of them shares one. Every sequence has a query and a
    key. Scores are multiplied by `scale`.
    """

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs [Q, heads, dim], and the log of the sum of exponentiated scores [heads, Q]."""
        ...

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
        """What flows through these keys, for attention whose output and log-sum-exp are given."""
        ...
