"""Layers that hold and compute what arrived, and those that do not, with layers made up here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from t2g_ray.weights import expectations
from t2g_ray.weights.expectations import ExpertProducts, HeldBytes, MatrixProduct, probe
from t2g_ray.weights.manifest import WeightSyncError
from t2g_ray.weights.shards import ExpertPieces, Piece


class Method:
    """Computes from a copy of its own, as packed layers do."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        return x @ self.matrix.T


def layer_of(matrix: Tensor) -> Any:
    layer: Any = nn.Module()
    layer.weight = nn.Parameter(matrix.clone(), requires_grad=False)
    layer.quant_method = Method(matrix.clone())
    return layer


def piece_of(matrix: Tensor, *, start: int = 0, place: int = 0, name: str = "up") -> Piece:
    rows = len(matrix)
    return Piece(tensor=name, dim=0, start=start, length=rows, full=start + rows, place=place)


def product_of(matrix: Tensor) -> tuple[Any, MatrixProduct]:
    layer = layer_of(matrix)
    piece = piece_of(matrix)
    expected = MatrixProduct(layer, (piece,))
    expected.record(piece, matrix, "")
    return layer, expected


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_probe_is_the_same_everywhere() -> None:
    assert torch.equal(probe(8, torch.float32)[:4], probe(4, torch.float32))
    angles = [1.1, 1.6180339887498949 + 1.1]
    assert probe(2, torch.float32).tolist() == pytest.approx([math.cos(a) for a in angles])


def test_a_piece_in_its_place_has_its_digest_and_in_another_has_not() -> None:
    gate, up = random(3, 4, seed=1), random(3, 4, seed=2)
    layer = layer_of(torch.cat([gate, up]))
    pieces = (piece_of(gate, name="gate"), piece_of(up, place=3, name="up"))
    held = HeldBytes(layer, "weight", pieces)
    held.record(pieces[0], gate, "")
    held.record(pieces[1], up, "")
    held.check()
    layer.weight.data = torch.cat([gate, gate])
    with pytest.raises(WeightSyncError, match="copy of tensor up must have digest"):
        held.check()


def test_bytes_are_compared_in_the_number_format_of_the_parameter() -> None:
    sent = random(3, 4)
    layer = layer_of(sent.bfloat16())
    held = HeldBytes(layer, "weight", (piece_of(sent),))
    # The digest of the whole tensor is that of its fp32 bytes.
    held.record(piece_of(sent), sent, "digest of fp32")
    held.check()
    layer.weight.data[1, 1] += 1
    with pytest.raises(WeightSyncError):
        held.check()


def test_the_digest_of_a_whole_tensor_need_not_be_computed_again() -> None:
    sent = random(3, 4)
    held = HeldBytes(layer_of(sent), "weight", (piece_of(sent),))
    held.record(piece_of(sent), sent, "as the learner said")
    with pytest.raises(WeightSyncError, match="must have digest as the learner said"):
        held.check()


@pytest.mark.parametrize("wrong", ["rows swapped", "columns swapped", "one sign", "one row", "nan"])
def test_a_layer_that_computes_with_other_weights_is_named(wrong: str) -> None:
    matrix = random(6, 48)
    layer, expected = product_of(matrix)
    expected.check()
    stale = layer.quant_method.matrix
    if wrong == "rows swapped":
        stale[[0, 1]] = stale[[1, 0]]
    elif wrong == "columns swapped":
        stale[:, [0, 1]] = stale[:, [1, 0]]
    elif wrong == "one sign":
        stale[2, 3] *= -1
    elif wrong == "one row":
        stale[5] += 0.01 * random(48, seed=1)
    else:
        stale[0, 0] = math.nan
    with pytest.raises(WeightSyncError, match="the layer of tensor up must compute with the"):
        expected.check()


def test_a_zero_matrix_must_compute_exactly_zero() -> None:
    layer, expected = product_of(torch.zeros(3, 4))
    expected.check()
    layer.quant_method.matrix[0, 0] = 1e-6
    with pytest.raises(WeightSyncError):
        expected.check()


def test_a_matrix_is_multiplied_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectations, "CHUNK", 48 * 4)
    layer, expected = product_of(random(10, 48))
    expected.check()
    layer.quant_method.matrix[9, 0] += 1
    with pytest.raises(WeightSyncError):
        expected.check()


def test_a_rank_of_nothing_but_padding_has_nothing_to_compute() -> None:
    layer = layer_of(random(4, 8))
    piece = Piece(tensor="embed", dim=0, start=6, length=0, full=6)
    expected = MatrixProduct(layer, (piece,))
    expected.record(piece, piece.of_tensor(random(6, 8)), "")
    expected.check()


def test_products_of_a_matrix_that_cancel_are_judged_by_its_size() -> None:
    # Products of a constant matrix are almost 0 beside their terms, and so is what rounding adds.
    layer, expected = product_of(torch.full((8, 4096), 100.0))
    layer.quant_method.matrix = torch.full((8, 4096), 100.0 * (1 + 1e-6))
    expected.check()


def test_a_layer_of_several_tensors_names_the_one_that_is_stale() -> None:
    gate, up = random(3, 4, seed=1), random(5, 4, seed=2)
    layer = layer_of(torch.cat([gate, up]))
    pieces = (piece_of(gate, name="gate"), piece_of(up, place=3, name="up"))
    expected = MatrixProduct(layer, pieces)
    for piece, part in zip(pieces, (gate, up), strict=True):
        expected.record(piece, part, "")
    expected.check()
    layer.quant_method.matrix[4, 0] += 1
    with pytest.raises(WeightSyncError, match="tensor up must"):
        expected.check()


def test_the_columns_of_a_rank_give_its_part_of_the_product() -> None:
    matrix = random(5, 8)
    layer = layer_of(matrix[:, 4:])
    piece = Piece(tensor="down", dim=1, start=4, length=4, full=8)
    expected = MatrixProduct(layer, (piece,))
    expected.record(piece, piece.of_tensor(matrix), "")
    expected.check()
    layer.quant_method.matrix = matrix[:, :4]
    with pytest.raises(WeightSyncError, match="tensor down"):
        expected.check()


class Experts(nn.Module):
    """Two experts of width 3, computed by a formula and not by the project's."""

    local_num_experts = 2

    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.w13_weight = nn.Parameter(first.clone(), requires_grad=False)
        self.w2_weight = nn.Parameter(second.clone(), requires_grad=False)
        self.first, self.second = first, second
        self.quant_method = self

    def apply(self, layer: Any, **given: Any) -> Any:  # type: ignore[override]
        rows = []
        for x, (expert,) in zip(given["x"], given["topk_ids"].tolist(), strict=True):
            gate, up = (self.first[expert] @ x).split(3)
            rows.append(self.second[expert] @ (silu(gate) * up))
        return torch.stack(rows)


def experts() -> tuple[Experts, ExpertProducts]:
    layer = Experts(random(2, 6, 5, seed=1), random(2, 5, 3, seed=2))

    def piece(expert: int, name: str, dim: int, place: int = 0) -> Piece:
        return Piece(
            tensor=f"{expert}.{name}",
            dim=dim,
            start=0,
            length=3,
            full=3,
            place=place,
            expert=expert,
        )

    three = tuple(
        ExpertPieces(piece(e, "gate", 0), piece(e, "up", 0, 3), piece(e, "down", 1))
        for e in range(2)
    )
    return layer, ExpertProducts(layer, three)


@pytest.mark.parametrize("order", [("gate", "up", "down"), ("down", "up", "gate")])
def test_experts_are_proven_in_whatever_order_their_matrices_come(order: tuple[str, ...]) -> None:
    layer, expected = experts()
    for name in order:
        for three in expected.experts:
            piece: Piece = getattr(three, name)
            array = layer.second if name == "down" else layer.first
            buffer = piece.of_parameter(array).clone()
            expected.record(piece, buffer, "")
            # The memory of a bucket serves the next one.
            buffer.zero_()
    expected.check()
    assert not expected._waiting
    layer.second[1, 0, 0] += 1
    with pytest.raises(WeightSyncError, match=r"tensors 1\.gate, 1\.up and 1\.down must compute"):
        expected.check()
