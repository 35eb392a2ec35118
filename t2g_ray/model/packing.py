"""Sequences in one row without padding -> how attention reads them.

Every layer but attention treats tokens one by one, so a row of many sequences needs no padding
there. Attention reads sequences: those of similar length are laid out as one padded call
(`Padded`), or a kernel for sequences of unlike length reads them where they are (`Ragged`).

Invariant: a token sees the prefix of its segment and its segment up to itself, nothing else. Axes:
L tokens of the row, S segments of one call, C tokens of its longest segment, P of its longest
segment with prefix (docs/glossary.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from t2g_ray.model.attention.kernel import Lengths
from t2g_ray.model.attention.merged import Ragged, Shared

MAX_WASTE = 1 / 32
"""A call may pad this share of all query-key pairs; more padding begins another call."""
CALL_PAIRS = 4096
"""Padded pairs that cost about as much as one more call; any call may pad this many."""


_CPU = torch.device("cpu")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Padded:
    """A row as padded calls."""

    calls: tuple[AttentionCall, ...]
    restore: torch.Tensor
    """[L] index of each token of the row in the outputs of all calls, put one after the other."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """A row that consists of the given segments, each of at least one token.

    Each plan is made on its device when it is first read, and kept: for all layers, and for all
    updates on a micro-batch.
    """

    segments: tuple[Segment, ...]
    device: torch.device = _CPU

    def to(self, device: torch.device) -> Packing:
        """The same row on `device`."""
        return self if device == self.device else Packing(segments=self.segments, device=device)

    @cached_property
    def position_ids(self) -> torch.Tensor:
        """[1, L] position of each token in its sequence."""
        row = sorted(self.segments, key=lambda s: s.start)
        lengths = torch.tensor([s.length for s in row])
        first = torch.tensor([s.prefix_length - s.start for s in row])
        positions = torch.arange(int(lengths.sum())) + first.repeat_interleave(lengths)
        return positions[None].to(self.device)

    @cached_property
    def padded(self) -> Padded:
        """Segments of similar length side by side."""
        return _padded(self.segments, self.device)

    @cached_property
    def ragged(self) -> Ragged:
        """Segments where they are; those that continue one prefix meet it together."""
        return _ragged(self.segments, self.device)


def _padded(segments: Sequence[Segment], device: torch.device) -> Padded:
    num_tokens = sum(segment.length for segment in segments)
    restore = torch.empty(num_tokens, dtype=torch.long, device=device)
    calls, offset = [], 0
    for bucket in _buckets(segments):
        # Each is [S, 1], to be compared with the offsets `step` and `key`.
        starts, lengths, prefix_starts, prefixes = torch.tensor(
            [[s.start, s.length, s.prefix_start, s.prefix_length] for s in bucket], device=device
        ).T[..., None]
        step = torch.arange(max(s.length for s in bucket), device=device)
        key = torch.arange(max(s.num_keys for s in bucket), device=device)
        is_token = step < lengths
        queries = starts + step * is_token
        own = (key - prefixes) * (key < prefixes + lengths)
        keys = torch.where(key < prefixes, prefix_starts + key, starts + own)
        mask = None
        if bucket[0].prefix_length:
            mask = (key <= (prefixes + step)[..., None])[:, None]
        restore[queries[is_token]] = offset + is_token.flatten().nonzero()[:, 0]
        offset += queries.numel()
        calls.append(AttentionCall(queries=queries, keys=keys, mask=mask))
    return Padded(calls=tuple(calls), restore=restore)


def _ragged(segments: Sequence[Segment], device: torch.device) -> Ragged:
    row = sorted(segments, key=lambda s: s.start)
    lengths = [s.length for s in row]
    own = Lengths.of(lengths, lengths, is_causal=True, device=device)
    by_prefix: dict[tuple[int, int], list[Segment]] = {}
    for segment in row:
        if segment.prefix_length:
            prefix = segment.prefix_start, segment.prefix_length
            by_prefix.setdefault(prefix, []).append(segment)
    if not by_prefix:
        return Ragged(own=own, shared=None)
    queries = [(s.start, s.length) for members in by_prefix.values() for s in members]
    return Ragged(
        own=own,
        shared=Shared(
            queries=_places(queries, device),
            keys=_places(list(by_prefix), device),
            lengths=Lengths.of(
                [sum(s.length for s in members) for members in by_prefix.values()],
                [length for _, length in by_prefix],
                is_causal=False,
                device=device,
            ),
        ),
    )


def _places(spans: Sequence[tuple[int, int]], device: torch.device) -> torch.Tensor:
    """Starts and lengths -> all places in them."""
    return torch.cat([torch.arange(start, start + length) for start, length in spans]).to(device)


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
