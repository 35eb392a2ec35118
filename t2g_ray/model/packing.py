"""Sequences in one row without padding -> the padded calls of attention that they need.

Every layer but attention treats tokens one by one, so a row of many sequences needs no padding
there. Attention reads sequences: those of similar length are laid out as one padded call.

Invariant: a token sees the prefix of its segment and its segment up to itself, nothing else. Axes:
L tokens of the row, S segments of one call, C tokens of its longest segment, P of its longest
segment with prefix (docs/glossary.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

MAX_WASTE = 1 / 32
"""A call may pad this share of all query-key pairs; more padding begins another call."""
CALL_PAIRS = 4096
"""Padded pairs that cost about as much as one more call; any call may pad this many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """`length` tokens of the row from `start`, which continue those of the prefix, if any.

    Example: a completion of 3 tokens after a prompt of 5 that other completions share is
    Segment(start=9, length=3, prefix_start=0, prefix_length=5).
    """

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0

    @property
    def num_keys(self) -> int:
        """Tokens that the last token of the segment sees."""
        return self.prefix_length + self.length

    @property
    def num_pairs(self) -> int:
        """Queries times keys: the size of its attention without padding."""
        return self.length * self.num_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCall:
    """One padded call of attention; padding repeats the first token of its segment."""

    queries: torch.Tensor
    """[S, C] indices into the row."""
    keys: torch.Tensor
    """[S, P] indices into the row, the prefix first."""
    mask: torch.Tensor | None
    """[S, 1, C, P] True where a query sees a key; None without prefixes: plain causal attention."""

    @property
    def num_pairs(self) -> int:
        """Queries times keys, padding included."""
        return self.queries.numel() * self.keys.shape[1]

    def to(self, device: torch.device) -> AttentionCall:
        """The same call on `device`."""
        mask = None if self.mask is None else self.mask.to(device)
        return AttentionCall(queries=self.queries.to(device), keys=self.keys.to(device), mask=mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """All that a model needs to read a packed row."""

    position_ids: torch.Tensor
    """[1, L] position of each token in its sequence."""
    calls: tuple[AttentionCall, ...]
    restore: torch.Tensor
    """[L] index of each token of the row in the outputs of all calls, put one after the other."""

    def to(self, device: torch.device) -> Packing:
        """The same on `device`."""
        return Packing(
            position_ids=self.position_ids.to(device),
            calls=tuple(call.to(device) for call in self.calls),
            restore=self.restore.to(device),
        )


def pack(segments: Sequence[Segment]) -> Packing:
    """Lay out a row that consists of the given segments, each of at least one token."""
    num_tokens = sum(segment.length for segment in segments)
    position_ids = torch.empty(num_tokens, dtype=torch.long)
    restore = torch.empty(num_tokens, dtype=torch.long)
    calls, offset = [], 0
    for bucket in _buckets(segments):
        # Each is [S, 1], to be compared with the offsets `step` and `key`.
        starts, lengths, prefix_starts, prefixes = torch.tensor(
            [[s.start, s.length, s.prefix_start, s.prefix_length] for s in bucket]
        ).T[..., None]
        step = torch.arange(int(lengths.max()))
        key = torch.arange(int((prefixes + lengths).max()))
        is_token = step < lengths
        queries = starts + step * is_token
        own = (key - prefixes) * (key < prefixes + lengths)
        keys = torch.where(key < prefixes, prefix_starts + key, starts + own)
        mask = (key <= (prefixes + step)[..., None])[:, None] if bool(prefixes.any()) else None
        tokens = queries[is_token]
        position_ids[tokens] = (prefixes + step)[is_token]
        restore[tokens] = offset + is_token.flatten().nonzero()[:, 0]
        offset += queries.numel()
        calls.append(AttentionCall(queries=queries, keys=keys, mask=mask))
    return Packing(position_ids=position_ids[None], calls=tuple(calls), restore=restore)


def _buckets(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments of similar length together; with and without a prefix apart.

    Greedy over sorted lengths.
    """
    limit = max(CALL_PAIRS, MAX_WASTE * sum(segment.num_pairs for segment in segments))
    for has_prefix in (False, True):
        kind = [s for s in segments if (s.prefix_length > 0) == has_prefix]
        bucket: list[Segment] = []
        num_pairs = num_keys = 0
        for segment in sorted(kind, key=lambda s: (s.length, s.prefix_length)):
            num_pairs += segment.num_pairs
            num_keys = max(num_keys, segment.num_keys)
            if (len(bucket) + 1) * segment.length * num_keys - num_pairs > limit:
                yield bucket
                bucket, num_pairs, num_keys = [], segment.num_pairs, segment.num_keys
            bucket.append(segment)
        if bucket:
            yield bucket
