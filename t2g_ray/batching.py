"""Samples -> token-budget micro-batches, balanced over ranks.

Two layouts of the same tokens. `shared`: each distinct prompt of a micro-batch is computed once
and its keys and values serve all completions of its group. `joined`: prompt and completion are
one row. Letters: S samples, B distinct prompts, P prompt tokens, C completion tokens, L row
tokens, K trained tokens in sample order.

Invariant: how samples are cut into micro-batches and ranks changes no gradient, because losses
are sums over K divided by a constant of the whole batch.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from t2g_ray.types import Sample

PAD_ID = 0
"""Padding is masked everywhere, so its id only has to exist in every vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Tensors of one forward pass; every field is complete.

    Example of `shared`: prompt_ids [B, P], completion_ids [S, C], prompt_of [S] in 0..B-1.
    Example of `joined`: prompt_ids is empty, completion_ids holds rows [S, L].
    """

    is_shared: bool
    prompt_ids: torch.Tensor
    prompt_lengths: torch.Tensor
    prompt_of: torch.Tensor
    completion_ids: torch.Tensor
    predictor: torch.Tensor
    """[K] flat index of the hidden state that predicts each trained token."""
    targets: torch.Tensor
    """[K] ids of the trained tokens."""
    sampler_logprobs: torch.Tensor
    """[K]"""
    advantages: torch.Tensor
    """[K] the sample's advantage, repeated for its tokens."""
    sample_of: torch.Tensor
    """[K] position of the token's sample in the micro-batch."""
    num_tokens: int
    """Real prompt and completion tokens that are computed."""
    num_slots: int
    """The same with padding."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch with all tensors on `device`."""
        if device.type == "cpu":
            return self
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), torch.Tensor)]
        moved: dict[str, Any] = {n: getattr(self, n).to(device, non_blocking=True) for n in names}
        return replace(self, **moved)


def balance(costs: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Positions 0..len(costs)-1 spread over ranks so that sums are close (longest first).

    Deterministic; positions within a rank stay in order. Graham 1969, LPT rule: the largest
    sum is at most 4/3 of the best possible.
    """
    heap = [(0, rank) for rank in range(num_ranks)]
    ranks: list[list[int]] = [[] for _ in range(num_ranks)]
    for position in sorted(range(len(costs)), key=lambda p: (-costs[p], p)):
        load, rank = heapq.heappop(heap)
        ranks[rank].append(position)
        heapq.heappush(heap, (load + costs[position], rank))
    return [sorted(positions) for positions in ranks]


def cut(samples: Sequence[Sample], *, token_budget: int, is_shared: bool) -> list[list[Sample]]:
    """Samples by length, whole groups together, cut where the padded size would pass the budget.

    Raises ValueError when a single sample is larger than the budget.
    """
    units = _units(samples, is_shared)
    parts: list[list[Sample]] = []
    current: list[Sample] = []
    for unit in units:
        if _num_slots([*unit], is_shared) > token_budget and len(unit) > 1:
            pieces = [[sample] for sample in unit]
        else:
            pieces = [unit]
        for piece in pieces:
            if _num_slots(piece, is_shared) > token_budget:
                raise ValueError(
                    f"a sample must fit learner.token_budget={token_budget}, found one of "
                    f"{_num_slots(piece, is_shared)} tokens; raise learner.token_budget"
                )
            if current and _num_slots([*current, *piece], is_shared) > token_budget:
                parts.append(current)
                current = []
            current = [*current, *piece]
    if current:
        parts.append(current)
    return parts


def _units(samples: Sequence[Sample], is_shared: bool) -> list[list[Sample]]:
    if not is_shared:
        return [[s] for s in sorted(samples, key=lambda s: _length(s))]
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return sorted(groups.values(), key=lambda unit: max(len(s.completion_ids) for s in unit))


def _length(sample: Sample) -> int:
    return len(sample.prompt_ids) + len(sample.completion_ids)


def _num_slots(samples: Sequence[Sample], is_shared: bool) -> int:
    if not is_shared:
        return len(samples) * max(_length(s) for s in samples)
    prompts = {s.group: len(s.prompt_ids) for s in samples}
    longest = max(len(s.completion_ids) for s in samples)
    return len(prompts) * max(prompts.values()) + len(samples) * longest


def collate(samples: Sequence[Sample], *, is_shared: bool) -> MicroBatch:
    """One micro-batch of the given samples, on the CPU."""
    lengths = [len(s.completion_ids) for s in samples]
    targets = torch.cat([torch.from_numpy(s.completion_ids).long() for s in samples])
    sampler = torch.cat([torch.from_numpy(s.sampler_logprobs) for s in samples])
    counts = torch.tensor(lengths)
    advantages = torch.tensor([s.advantage for s in samples], dtype=torch.float32)
    place = _shared if is_shared else _joined
    prompts, prompt_lengths, prompt_of, rows, predictor = place(samples)
    real = int(prompt_lengths.sum()) + sum(lengths)
    return MicroBatch(
        is_shared=is_shared,
        prompt_ids=prompts,
        prompt_lengths=prompt_lengths,
        prompt_of=prompt_of,
        completion_ids=rows,
        predictor=predictor,
        targets=targets,
        sampler_logprobs=sampler,
        advantages=advantages.repeat_interleave(counts),
        sample_of=torch.arange(len(samples)).repeat_interleave(counts),
        num_tokens=real,
        num_slots=prompts.numel() + rows.numel(),
    )


Placed = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _joined(samples: Sequence[Sample]) -> Placed:
    rows = _pad([[*s.prompt_ids, *s.completion_ids.tolist()] for s in samples])
    width = rows.shape[1]
    # The state before a token predicts it: the first one's predictor ends the prompt.
    predictor = torch.cat(
        [
            torch.arange(len(s.completion_ids)) + row * width + len(s.prompt_ids) - 1
            for row, s in enumerate(samples)
        ]
    )
    prompt_lengths = torch.tensor([len(s.prompt_ids) for s in samples])
    none = torch.empty(0, 0, dtype=torch.long)
    return none, prompt_lengths, torch.arange(len(samples)), rows, predictor


def _shared(samples: Sequence[Sample]) -> Placed:
    place: dict[int, int] = {}
    for sample in samples:
        place.setdefault(sample.group, len(place))
    first = {s.group: s.prompt_ids for s in reversed(samples)}
    prompts = _pad([list(first[group]) for group in place])
    # The last token of a completion predicts nothing, so it is not computed.
    rows = _pad([s.completion_ids.tolist()[:-1] or [PAD_ID] for s in samples])
    prompt_lengths = torch.tensor([len(first[group]) for group in place])
    offset, width = prompts.numel(), rows.shape[1]
    predictor = []
    for row, sample in enumerate(samples):
        unit = place[sample.group]
        head = unit * prompts.shape[1] + len(sample.prompt_ids) - 1
        tail = offset + row * width + torch.arange(len(sample.completion_ids) - 1)
        predictor.append(torch.cat([torch.tensor([head]), tail]))
    prompt_of = torch.tensor([place[s.group] for s in samples])
    return prompts, prompt_lengths, prompt_of, rows, torch.cat(predictor)


def _pad(rows: list[list[int]]) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + [PAD_ID] * (width - len(row)) for row in rows])
