"""A tensor of the learner -> the pieces of it that one rank of an engine holds, by the kind of the
layer.

The rules are those by which vLLM's own loaders cut: rows of matrices that are stacked in one layer,
columns of those whose products are added up over ranks, rows of the vocabulary with its padding,
and the width of experts.

Invariant: the pieces that the ranks of an engine hold cover each tensor, and overlap only where
ranks share heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from t2g_ray.vllm_private.experts import ExpertFacts
from t2g_ray.vllm_private.layers import LayerFacts
from t2g_ray.weights.manifest import WeightSyncError


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`length` of a tensor's axis `dim` from `start` on, which lies in a parameter from `place` on.

    Example: the second of two ranks holds rows 6 to 11 of an up projection of 12 rows, in its rows
    6 to 11 too, after its half of the gate.
    """

    tensor: str
    dim: int
    start: int
    length: int
    full: int
    """Length of the tensor's axis."""
    place: int = 0
    expert: int | None = None
    """Which matrix of the parameter, where that holds one for each expert."""

    def of_tensor(self, tensor: Tensor) -> Tensor:
        """The piece, a view. Raises WeightSyncError where the tensor has another size."""
        tensor = tensor if tensor.ndim else tensor[None]
        if tensor.ndim <= self.dim or tensor.shape[self.dim] != self.full:
            raise WeightSyncError(
                f"tensor {self.tensor} must have {self.full} entries along axis {self.dim}, found "
                f"the shape {list(tensor.shape)}: learner and sampler have different models"
            )
        return tensor.narrow(self.dim, self.start, self.length)

    def of_parameter(self, parameter: Tensor) -> Tensor:
        """Where the piece must lie, a view."""
        whole = parameter if self.expert is None else parameter[self.expert]
        whole = whole if whole.ndim else whole[None]
        return whole.narrow(self.dim, self.place, self.length)


def pieces_of(
    facts: LayerFacts, tensors: Sequence[str], *, is_bias: bool, length: int
) -> tuple[Piece, ...]:
    """The pieces of `tensors` that are, in this order, a parameter with `length` rows.

    Raises WeightSyncError where their number is not that of the layer's constituents.
    """
    if facts.kind == "whole" or (facts.kind == "columns" and is_bias):
        (name,) = tensors
        return (Piece(tensor=name, dim=0, start=0, length=length, full=length),)
    if facts.kind == "columns":
        (name,) = tensors
        return (_columns(name, facts),)
    if facts.kind == "vocabulary":
        (name,) = tensors
        return (_rows_of_vocabulary(name, facts),)
    return tuple(_stacked(facts, tensors))


def _columns(name: str, facts: LayerFacts) -> Piece:
    (full,) = facts.full
    length = full // facts.size
    return Piece(tensor=name, dim=1, start=facts.rank * length, length=length, full=full)


def _rows_of_vocabulary(name: str, facts: LayerFacts) -> Piece:
    (rows,) = facts.full
    share = facts.padded // facts.size
    start = min(facts.rank * share, rows)
    stop = min(start + share, rows)
    return Piece(tensor=name, dim=0, start=start, length=stop - start, full=rows)


def _stacked(facts: LayerFacts, tensors: Sequence[str]) -> Iterator[Piece]:
    if len(tensors) not in (1, len(facts.full)):
        raise WeightSyncError(
            f"a layer of {len(facts.full)} constituents must come from as many tensors or from "
            f"one, found {list(tensors)}"
        )
    # Checkpoints may keep the constituents as one tensor.
    is_one = len(tensors) == 1
    place = offset = 0
    for number, (full, copies) in enumerate(zip(facts.full, facts.copies, strict=True)):
        length = full // (facts.size // copies)
        yield Piece(
            tensor=tensors[0 if is_one else number],
            dim=0,
            start=offset + facts.rank // copies * length,
            length=length,
            full=sum(facts.full) if is_one else full,
            place=place,
        )
        place += length
        offset += full if is_one else 0


@dataclass(frozen=True, slots=True)
class ExpertPieces:
    """The pieces of one expert's three matrices."""

    gate: Piece
    up: Piece
    down: Piece


def expert_pieces(facts: ExpertFacts) -> tuple[ExpertPieces, ...]:
    """For each expert; gate and up lie in the layer's first array, down in its second."""

    def piece(number: int, matrix: str, dim: int, place: int = 0) -> Piece:
        return Piece(
            tensor=f"{facts.name}.{number}.{matrix}.weight",
            dim=dim,
            start=facts.rank * (facts.intermediate // facts.size),
            length=facts.intermediate // facts.size,
            full=facts.intermediate,
            place=place,
            expert=number,
        )

    return tuple(
        ExpertPieces(
            gate=piece(number, facts.gate, 0),
            up=piece(number, facts.up, 0, facts.up_row),
            down=piece(number, facts.down, 1),
        )
        for number in range(facts.num_experts)
    )
