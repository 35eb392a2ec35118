"""Samples of either stage -> token-budget micro-batches, balanced over ranks.

Two layouts of the same tokens. `packed`: one row without padding, each distinct prompt once for all
completions of its group. `joined`: a padded row of prompt and completion for each sample, for
models that cannot read packed rows. Axes: R rows, L tokens of a row, K trained tokens in sample
order (docs/glossary.md).

Invariant: how samples are cut into micro-batches and ranks changes the gradient by rounding alone,
because losses are sums over K divided by a constant of the whole batch.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import torch

from t2g_ray.model.packing import Packing, Segment
from t2g_ray.types import IntArray, Sample

PAD_ID = 0
"""Padding is masked everywhere, so any id will do that exists in every vocabulary."""


class Trainable(Protocol):
    """What both stages train on: a prompt and the tokens that follow it.

    Samples of one `group` share their prompt, which is then computed once.
    """

    @property
    def group(self) -> int: ...

    @property
    def prompt_ids(self) -> tuple[int, ...]: ...

    @property
    def completion_ids(self) -> IntArray: ...


AnySample = TypeVar("AnySample", bound=Trainable)
AnyBatch = TypeVar("AnyBatch", bound="MicroBatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Tensors of one forward pass: all that SFT trains on."""

    token_ids: torch.Tensor
    """[R, L]; one row where the tokens are packed."""
    segments: tuple[Segment, ...]
    """Where the real tokens are in the flattened rows, and which prefix each segment continues."""
    packing: Packing | None
    """How attention reads the packed row; None: padded rows."""
    predictor: torch.Tensor
    """[K] index into the flattened rows of the hidden state that predicts each trained token."""
    targets: torch.Tensor
    """[K] ids of the trained tokens."""
    sample_of: torch.Tensor
    """[K] index of the token's sample in the micro-batch."""

    @property
    def num_tokens(self) -> int:
        """Real tokens that are computed: all but the last of a completion, which predicts none."""
        return sum(segment.length for segment in self.segments)

    @property
    def num_slots(self) -> int:
        """Tokens that are computed, padding included."""
        return self.token_ids.numel()

    def to(self: AnyBatch, device: torch.device) -> AnyBatch:
        """The same micro-batch with all tensors on `device`."""
        if device.type == "cpu":
            return self
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), torch.Tensor)]
        moved: dict[str, Any] = {n: getattr(self, n).to(device, non_blocking=True) for n in names}
        packing = None if self.packing is None else self.packing.to(device)
        return replace(self, packing=packing, **moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBatch(MicroBatch):
    """A micro-batch, with what GRPO needs for each trained token."""

    sampler_logprobs: torch.Tensor
    """[K]"""
    advantages: torch.Tensor
    """[K] the sample's advantage, repeated for its tokens."""
    first_versions: torch.Tensor
    """[K] of the weights that began the token's completion; no token of it is older."""


def balance(costs: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Spread the indices of `costs` over ranks so that the sums are close (largest first).

    Deterministic; indices within a rank stay in order. Graham 1969, LPT rule: the largest
    sum is at most 4/3 of the best possible.
    """
    heap = [(0, rank) for rank in range(num_ranks)]
    ranks: list[list[int]] = [[] for _ in range(num_ranks)]
    for index in sorted(range(len(costs)), key=lambda p: (-costs[p], p)):
        load, rank = heapq.heappop(heap)
        ranks[rank].append(index)
        heapq.heappush(heap, (load + costs[index], rank))
    return [sorted(indices) for indices in ranks]


def cut(
    samples: Sequence[AnySample], *, token_budget: int, is_packed: bool
) -> list[list[AnySample]]:
    """Samples sorted by length, groups kept together, cut where their slots would exceed the
    budget.

    Raises ValueError when a single sample is larger than the budget.
    """
    parts: list[list[AnySample]] = []
    current: list[AnySample] = []
    for unit in _units(samples, is_packed):
        is_torn = len(unit) > 1 and _num_slots(unit, is_packed) > token_budget
        for piece in [[sample] for sample in unit] if is_torn else [unit]:
            if _num_slots(piece, is_packed) > token_budget:
                raise ValueError(
                    f"a sample must fit learner.token_budget={token_budget}, found one of "
                    f"{_num_slots(piece, is_packed)} tokens; raise learner.token_budget"
                )
            if current and _num_slots([*current, *piece], is_packed) > token_budget:
                parts.append(current)
                current = []
            current = [*current, *piece]
    if current:
        parts.append(current)
    return parts


def _units(samples: Sequence[AnySample], is_packed: bool) -> list[list[AnySample]]:
    if not is_packed:
        return [[s] for s in sorted(samples, key=_length)]
    groups: dict[int, list[AnySample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return sorted(groups.values(), key=lambda unit: max(_length(s) for s in unit))


def _length(sample: Trainable) -> int:
    # The last token of a completion predicts nothing, so it is not computed.
    return len(sample.prompt_ids) + len(sample.completion_ids) - 1


def _num_slots(samples: Sequence[Trainable], is_packed: bool) -> int:
    if not is_packed:
        return len(samples) * max(_length(s) for s in samples)
    prompts = {s.group: len(s.prompt_ids) for s in samples}
    return sum(prompts.values()) + sum(len(s.completion_ids) - 1 for s in samples)


def collate(samples: Sequence[Trainable], *, is_packed: bool) -> MicroBatch:
    """One micro-batch of the given samples, on the CPU."""
    return MicroBatch(**_rows(samples, is_packed))


def collate_policy(samples: Sequence[Sample], *, is_packed: bool) -> PolicyBatch:
    """`collate` for GRPO."""
    rows = _rows(samples, is_packed)
    advantages = torch.tensor([s.advantage for s in samples], dtype=torch.float32)
    return PolicyBatch(
        **rows,
        sampler_logprobs=torch.cat([torch.from_numpy(s.sampler_logprobs) for s in samples]),
        advantages=advantages[rows["sample_of"]],
        first_versions=torch.tensor([int(s.versions[0]) for s in samples])[rows["sample_of"]],
    )


def _rows(samples: Sequence[Trainable], is_packed: bool) -> dict[str, Any]:
    """The fields of a `MicroBatch`."""
    token_ids, segments, predictor = (_packed if is_packed else _joined)(samples)
    counts = torch.tensor([len(s.completion_ids) for s in samples])
    return {
        "token_ids": token_ids,
        "segments": tuple(segments),
        "packing": Packing(segments=tuple(segments)) if is_packed else None,
        "predictor": predictor,
        "targets": torch.cat([torch.from_numpy(s.completion_ids).long() for s in samples]),
        "sample_of": torch.arange(len(samples)).repeat_interleave(counts),
    }


PlacedTokens = tuple[torch.Tensor, list[Segment], torch.Tensor]


def _joined(samples: Sequence[Trainable]) -> PlacedTokens:
    rows = [[*s.prompt_ids, *s.completion_ids[:-1].tolist()] for s in samples]
    width = max(len(row) for row in rows)
    segments, predictor = [], list[int]()
    for index, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        start = index * width
        segments.append(Segment(start=start, length=len(row)))
        # The state before a token predicts it: the first one's predictor ends the prompt.
        predictor += range(start + len(sample.prompt_ids) - 1, start + len(row))
    padded = torch.tensor([row + [PAD_ID] * (width - len(row)) for row in rows])
    return padded, segments, torch.tensor(predictor)


def _packed(samples: Sequence[Trainable]) -> PlacedTokens:
    sizes = Counter(sample.group for sample in samples)
    row, segments, predictor = list[int](), list[Segment](), list[int]()
    prompts: dict[int, int] = {}
    for sample in samples:
        completion, num_prompt = sample.completion_ids[:-1].tolist(), len(sample.prompt_ids)
        is_new, is_alone = sample.group not in prompts, sizes[sample.group] == 1
        if is_new:
            prompts[sample.group] = len(row)
            length = num_prompt + len(completion) * is_alone
            segments.append(Segment(start=len(row), length=length))
            row += sample.prompt_ids
        start, prompt = len(row), prompts[sample.group]
        if completion and not is_alone:
            segments.append(
                Segment(
                    start=start,
                    length=len(completion),
                    prefix_start=prompt,
                    prefix_length=num_prompt,
                )
            )
        row += completion
        predictor += [prompt + num_prompt - 1, *range(start, start + len(completion))]
    return torch.tensor([row]), segments, torch.tensor(predictor)
