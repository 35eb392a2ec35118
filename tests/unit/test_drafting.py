"""Guesses at the next tokens, and the check that keeps them from changing the distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from t2g_ray.drafting import NONE, guess, verify

LIKELY = [1, 10, 2, 30, 3, 1, 11, 2, 31, 3, 9]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([1], [10, 2, 30]),
        ([1, 10, 2], [30, 3, 1]),
        ([1, 10, 2, 30, 3, 1], [11, 2, 31]),
        ([1, 12, 2], [30, 3, 1]),
        ([1, 12, 2, 30, 3, 1, 11], [2, 31, 3]),
        ([5], []),
        (LIKELY, []),
        ([], []),
    ],
)
def test_a_guess_goes_on_where_most_of_what_is_written_agrees(
    written: list[int], expected: list[int]
) -> None:
    assert guess(written, LIKELY, 3) == expected


def test_nothing_is_guessed_without_room_or_a_likely_answer() -> None:
    assert guess([1], LIKELY, 0) == guess([1], LIKELY, -1) == guess([1], [], 3) == []


def test_ids_of_large_vocabularies_are_found() -> None:
    assert guess([151_643, 55_296], [7, 151_643, 55_296, 151_645], 4) == [151_645]


def chain(num: int, guessed: list[int], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`num` answers of three tokens, by a policy in which a token depends on its place alone."""
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(5))
    guesses = torch.tensor([[*guessed, *[NONE] * (2 - len(guessed))]] * num)
    counts = torch.full((num,), len(guessed))
    rows = logits[: len(guessed) + 1].repeat(num, 1)
    tokens, logprobs = verify(rows, guesses, counts, torch.full((num,), temperature))
    expected = torch.log_softmax(logits / temperature, -1)
    places = torch.arange(3).expand(num, 3)
    is_written = tokens >= 0
    assert torch.allclose(logprobs[is_written], expected[places, tokens.clamp(min=0)][is_written])
    assert not logprobs[~is_written].any()
    return tokens, expected.exp()


@pytest.mark.parametrize("temperature", [0.7, 1.3])
@pytest.mark.parametrize("guessed", [[], [0], [3, 3], [5, 0]])
def test_guesses_do_not_change_what_is_written(guessed: list[int], temperature: float) -> None:
    torch.manual_seed(1)
    num = 40_000
    tokens, expected = chain(num, guessed, temperature)
    for place in range(len(guessed) + 1):
        # Later tokens are written in this pass only where all the guesses before them stood.
        written = tokens[tokens[:, place] >= 0, place]
        counts = np.bincount(written.numpy(), minlength=6)
        probabilities = expected[place].double().numpy()
        probabilities /= probabilities.sum()
        assert chisquare(counts, probabilities * len(written)).pvalue > 1e-4
    for place, token in enumerate(guessed):
        stood = (tokens[:, place] == token) & (tokens[:, place + 1] >= 0)
        assert (tokens[:, place + 1] >= 0).sum() == stood.sum()


def test_a_row_ends_with_the_token_after_its_last_standing_guess() -> None:
    certain = torch.full((6, 4), -100.0)
    certain[[0, 1, 2, 3, 4, 5], [2, 0, 1, 3, 3, 0]] = 0.0
    guesses = torch.tensor([[2, 0], [1, NONE], [NONE, NONE]])
    tokens, _ = verify(certain, guesses, torch.tensor([2, 1, 0]), torch.tensor([1.0, 1.0, 0.0]))
    assert tokens.tolist() == [[2, 0, 1], [3, NONE, NONE], [0, NONE, NONE]]


def test_greedy_rows_take_the_most_likely_token_beside_sampled_ones() -> None:
    logits = torch.tensor([[0.0, 0.1, 0.05], [0.3, 0.0, 0.2]]).repeat(200, 1)
    guesses = torch.tensor([[1], [2]] * 100)
    tokens, _ = verify(logits, guesses, torch.ones(200, dtype=torch.long), torch.zeros(200))
    assert tokens.tolist() == [[1, 0], [1, NONE]] * 100


def test_a_place_held_open_without_a_guess_is_written_by_the_policy() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 2.0], [5.0, 0.0]]).repeat(4000, 1)
    tokens, _ = verify(
        logits, torch.full((4000, 1), NONE), torch.ones(4000, dtype=torch.long), torch.ones(4000)
    )
    assert (tokens[:, 1] == NONE).all()
    share = (tokens[:, 0] == 1).float().mean().item()
    assert abs(share - 1 / (1 + np.exp(-2))) < 0.02
