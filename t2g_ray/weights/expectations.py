"""Pieces of tensors as they arrive -> what a rank must hold and compute afterwards, compared.

A digest shows that a piece lies where it belongs. A product with a fixed vector shows what the
layer computes: a sampler that goes on with a packed copy of an old matrix passes every comparison
of bytes and fails this one.

Invariant: an expectation is made from the piece that arrived, in the number format of the
parameter that takes it, before it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from t2g_ray.vllm_private.experts import expert_products
from t2g_ray.vllm_private.layers import product_of
from t2g_ray.weights.manifest import WeightSyncError, bytes_of, digest_of, right_probe
from t2g_ray.weights.shards import ExpertPieces, Piece

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Of a product's length. fp32 sums of some thousand terms differ by about 1e-6."""

CHUNK = 2**24
"""Numbers of a matrix that are multiplied at a time."""


class Expectation(Protocol):
    """What must hold of some pieces."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of them must be recorded before `check`."""

    def record(self, piece: Piece, part: Tensor, digest: str) -> None:
        """Take one piece as it arrived; `digest` is its tensor's, where the piece is all of it."""

    def check(self) -> None:
        """Raises WeightSyncError that names a tensor."""


def probe(length: int, dtype: torch.dtype) -> Tensor:
    """The right probe [length] in the number format of a layer."""
    return right_probe(length).to(dtype)


@dataclass(frozen=True, slots=True)
class HeldBytes:
    """A parameter of a layer holds the bytes of its pieces."""

    layer: nn.Module
    parameter: str
    pieces: tuple[Piece, ...]
    _digests: dict[Piece, str] = field(default_factory=dict)

    def record(self, piece: Piece, part: Tensor, digest: str) -> None:
        """The piece's digest."""
        dtype = _parameter(self.layer, self.parameter).dtype
        if part.dtype != dtype or not digest:
            digest = digest_of(bytes_of(part.to(dtype)))
        self._digests[piece] = digest

    def check(self) -> None:
        """Compare the bytes at each piece's place."""
        parameter = _parameter(self.layer, self.parameter)
        for piece in self.pieces:
            found = digest_of(bytes_of(piece.of_parameter(parameter)))
            if found != self._digests[piece]:
                raise WeightSyncError(
                    f"the sampler's copy of tensor {piece.tensor} must have digest "
                    f"{self._digests[piece]}, found {found}: it was not loaded, loaded in another "
                    "place, or changed since"
                )


@dataclass(frozen=True, slots=True)
class _Product:
    value: Tensor
    """[rows] in fp32, on the CPU."""
    scale: float
    """Its length, or what that would be if nothing cancelled: rounding errors are of this size."""
    num_columns: int


def _product(matrix: Tensor, x: Tensor) -> _Product:
    values, squares = list[Tensor](), 0.0
    # An engine leaves little memory: never the whole matrix in fp32.
    for rows in matrix.split(max(1, CHUNK // max(1, len(x)))):
        part = rows.float()
        values.append(part @ x)
        squares += float(part.square().sum())
    value = torch.cat(values)
    typical = squares**0.5 * float(x.norm()) / max(1, len(x)) ** 0.5
    return _Product(value.cpu(), max(float(value.norm()), typical), len(x))


def _compare(found: Tensor, expected: _Product, dtype: torch.dtype, what: str) -> None:
    difference = float((found.detach().float().cpu() - expected.value).norm())
    # Written so that NaN fails. An all-zero matrix has scale 0 and must give exactly 0.
    if not difference <= TOLERANCE[dtype] * expected.scale:
        raise WeightSyncError(
            f"the layer of {what} must compute with the weights just sent, found a product that is "
            f"{difference:.3g} away from theirs, which has length {expected.scale:.3g}: the "
            "sampler still uses other weights, for instance a packed copy of an older version"
        )


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """A layer computes the products of its pieces with the probe."""

    layer: nn.Module
    pieces: tuple[Piece, ...]
    _expected: dict[Piece, _Product] = field(default_factory=dict)

    def record(self, piece: Piece, part: Tensor, digest: str) -> None:
        """The piece's product with the probe, in fp32."""
        matrix = part.to(_parameter(self.layer, "weight").dtype)
        x = probe(matrix.shape[1], matrix.dtype).float().to(matrix.device)
        self._expected[piece] = _product(matrix, x)

    def check(self) -> None:
        """Compare what the layer computes, row by row."""
        weight = _parameter(self.layer, "weight")
        # All pieces of a layer have the same columns.
        x = probe(self._expected[self.pieces[0]].num_columns, weight.dtype)
        with torch.no_grad():
            product = product_of(self.layer, x.to(weight.device))
        for piece in self.pieces:
            found = product[piece.place : piece.place + piece.length if piece.dim == 0 else None]
            _compare(found, self._expected[piece], weight.dtype, f"tensor {piece.tensor}")


@dataclass(frozen=True, slots=True)
class ExpertProducts:
    """Each expert of a layer computes down(silu(gate x) * up x) of the probe x with its pieces."""

    layer: nn.Module
    experts: tuple[ExpertPieces, ...]
    _waiting: dict[Piece, Tensor] = field(default_factory=dict)
    """Of experts that are not complete: the products of gate and up, and downs themselves."""
    _expected: dict[int, _Product] = field(default_factory=dict)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Of all experts."""
        return tuple(piece for one in self.experts for piece in (one.gate, one.up, one.down))

    def record(self, piece: Piece, part: Tensor, digest: str) -> None:
        """Take one of an expert's matrices; with the last one its product is computed."""
        assert piece.expert is not None
        expert = self.experts[piece.expert]
        dtype = _parameter(self.layer, "w13_weight").dtype
        matrix = part.to(dtype).float()
        if piece == expert.down:
            # A piece is a view of a bucket, whose memory serves the next one.
            self._waiting[piece] = matrix.clone()
        else:
            x = probe(matrix.shape[1], dtype).float().to(matrix.device)
            self._waiting[piece] = matrix @ x
        if all(one in self._waiting for one in (expert.gate, expert.up, expert.down)):
            gate, up, down = (
                self._waiting.pop(one) for one in (expert.gate, expert.up, expert.down)
            )
            self._expected[piece.expert] = _product(down, silu(gate) * up)

    def check(self) -> None:
        """Compare what each expert computes."""
        weight = _parameter(self.layer, "w13_weight")
        hidden = len(self._expected[0].value)
        with torch.no_grad():
            products = expert_products(self.layer, probe(hidden, weight.dtype).to(weight.device))
        for number, expert in enumerate(self.experts):
            what = f"tensors {expert.gate.tensor}, {expert.up.tensor} and {expert.down.tensor}"
            _compare(products[number], self._expected[number], weight.dtype, what)


def _parameter(layer: nn.Module, name: str) -> nn.Parameter:
    parameter = layer._parameters[name]
    assert parameter is not None
    return parameter
