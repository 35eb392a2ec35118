"""What each rank holds of a tensor, by hand and for random sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.vllm_private.experts import ExpertFacts
from t2g_ray.vllm_private.layers import LayerFacts
from t2g_ray.weights.manifest import WeightSyncError
from t2g_ray.weights.shards import Piece, expert_pieces, pieces_of

Placed = list[tuple[str, int, int, int]]


def placed(facts: LayerFacts, *tensors: str, is_bias: bool = False, length: int = 0) -> Placed:
    """For each piece: its tensor, the first row or column and the one after the last, its place."""
    pieces = pieces_of(facts, tensors, is_bias=is_bias, length=length)
    return [(one.tensor, one.start, one.start + one.length, one.place) for one in pieces]


def stacked(rank: int, size: int, full: tuple[int, ...], copies: tuple[int, ...]) -> LayerFacts:
    return LayerFacts(kind="stacked", rank=rank, size=size, full=full, copies=copies)


def test_a_rank_holds_its_rows_of_every_constituent_one_after_the_other() -> None:
    facts = stacked(1, 2, (12, 12), (1, 1))
    assert placed(facts, "gate", "up") == [("gate", 6, 12, 0), ("up", 6, 12, 6)]


def test_ranks_share_key_and_value_heads_where_there_are_fewer() -> None:
    # Four ranks, eight query heads and two of keys and values, of four rows each.
    held = [placed(stacked(rank, 4, (32, 8, 8), (1, 2, 2)), "q", "k", "v") for rank in range(4)]
    assert held[0] == [("q", 0, 8, 0), ("k", 0, 4, 8), ("v", 0, 4, 12)]
    assert held[1] == [("q", 8, 16, 0), ("k", 0, 4, 8), ("v", 0, 4, 12)]
    assert held[3] == [("q", 24, 32, 0), ("k", 4, 8, 8), ("v", 4, 8, 12)]


def test_constituents_that_a_checkpoint_keeps_as_one_are_cut_each() -> None:
    facts = stacked(1, 2, (8, 4, 4), (1, 1, 1))
    pieces = pieces_of(facts, ["qkv"], is_bias=False, length=8)
    assert [(p.start, p.length, p.place) for p in pieces] == [(4, 4, 0), (10, 2, 4), (14, 2, 6)]
    assert {p.full for p in pieces} == {16}


def test_columns_are_cut_and_their_biases_are_whole() -> None:
    facts = LayerFacts(kind="columns", rank=1, size=3, full=(9,))
    (piece,) = pieces_of(facts, ["down.weight"], is_bias=False, length=4)
    assert (piece.dim, piece.start, piece.length, piece.full) == (1, 3, 3, 9)
    assert placed(facts, "down.bias", is_bias=True, length=4) == [("down.bias", 0, 4, 0)]


def test_the_padding_of_the_vocabulary_lies_behind_the_last_ranks_rows() -> None:
    def of_rank(rank: int, size: int) -> tuple[str, int, int, int]:
        facts = LayerFacts(kind="vocabulary", rank=rank, size=size, full=(538,), padded=576)
        return placed(facts, "embed")[0]

    assert [of_rank(rank, 2) for rank in range(2)] == [("embed", 0, 288, 0), ("embed", 288, 538, 0)]
    # A rank of nothing but padding holds no row of it.
    facts = LayerFacts(kind="vocabulary", rank=3, size=4, full=(65,), padded=128)
    assert placed(facts, "embed") == [("embed", 65, 65, 0)]


def test_experts_are_cut_along_their_width() -> None:
    facts = ExpertFacts(
        name="mlp.experts",
        gate="w1",
        up="w3",
        down="w2",
        num_experts=3,
        rank=1,
        size=2,
        intermediate=8,
        up_row=16,
    )
    one = expert_pieces(facts)[2]
    assert [p.tensor for p in (one.gate, one.up, one.down)] == [
        "mlp.experts.2.w1.weight",
        "mlp.experts.2.w3.weight",
        "mlp.experts.2.w2.weight",
    ]
    assert {(p.start, p.length, p.full, p.expert) for p in (one.gate, one.up, one.down)} == {
        (4, 4, 8, 2)
    }
    assert [(p.dim, p.place) for p in (one.gate, one.up, one.down)] == [(0, 0), (0, 16), (1, 0)]
    # Its columns in the second array, and its rows in the first, where widths are padded to 16.
    second = torch.arange(3 * 5 * 16).view(3, 5, 16)
    assert torch.equal(one.down.of_parameter(second), second[2, :, :4])
    first = torch.arange(3 * 32 * 5).view(3, 32, 5)
    assert torch.equal(one.up.of_parameter(first), first[2, 16:20])


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1, 2, 4, 8]),
    heads=st.sampled_from([8, 16]),
    shared=st.sampled_from([1, 2, 4, 8]),
    width=st.integers(1, 3),
)
def test_all_ranks_together_hold_every_row(size: int, heads: int, shared: int, width: int) -> None:
    copies = max(1, size // shared)
    query = torch.arange(heads * width)[:, None]
    key = torch.arange(shared * width)[:, None]
    rows: dict[str, list[int]] = {"q": [], "k": []}
    for rank in range(size):
        facts = stacked(rank, size, (len(query), len(key)), (1, copies))
        held = pieces_of(facts, ["q", "k"], is_bias=False, length=0)
        # The pieces lie next to each other and fill the parameter.
        assert [p.place for p in held] == [0, held[0].length]
        for piece, tensor in zip(held, (query, key), strict=True):
            rows[piece.tensor] += piece.of_tensor(tensor)[:, 0].tolist()
    assert rows["q"] == list(range(len(query)))
    assert sorted(rows["k"]) == sorted(list(range(len(key))) * copies)


def test_a_tensor_of_another_size_is_named() -> None:
    piece = Piece(tensor="model.up.weight", dim=0, start=2, length=2, full=4)
    assert piece.of_tensor(torch.arange(4)).tolist() == [2, 3]
    for other in (torch.zeros(6, 2), torch.zeros(())):
        with pytest.raises(WeightSyncError, match=r"tensor model\.up\.weight must have 4 entries"):
            piece.of_tensor(other)


def test_a_number_without_an_axis_is_held_whole() -> None:
    (piece,) = pieces_of(LayerFacts(kind="whole"), ["scale"], is_bias=False, length=1)
    assert piece.of_tensor(torch.tensor(3.0)).tolist() == [3.0]
    assert piece.of_parameter(torch.tensor(3.0)).tolist() == [3.0]


def test_tensors_that_do_not_match_the_constituents_are_refused() -> None:
    with pytest.raises(WeightSyncError, match=r"3 constituents .* found \['q', 'k'\]"):
        placed(stacked(0, 2, (4, 2, 2), (1, 1, 1)), "q", "k")
