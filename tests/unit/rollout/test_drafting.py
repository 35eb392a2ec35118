"""Guesses at the next tokens, and the check that keeps them from changing the distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from t2g_ray.rollout.drafting import NONE, Guesser, verify


def uniforms(rows: int, guesses: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, guesses + 1, dtype=torch.float64, generator=generator)


LIKELY = [1, 10, 2, 30, 3, 1, 11, 2, 31, 3, 9]


def guess(written: list[int], limit: int = 3, likely: list[int] = LIKELY) -> list[int]:
    return Guesser(likely).guess(written, limit)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([1], [10, 2, 30]),
        ([1, 10, 2], [30, 3, 1]),
        ([1, 10, 2, 30, 3, 1], [11, 2, 31]),
        ([1, 10, 2, 30, 3, 1, 11], [2, 31, 3]),
    ],
)
def test_a_guess_goes_on_with_the_likely_answer(written: list[int], expected: list[int]) -> None:
    assert guess(written) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        # Another name than the likely one, first and later in the answer.
        ([1, 12], [2, 30, 3]),
        ([1, 10, 2, 30, 3, 1, 12, 2], [31, 3, 9]),
        # An item left out, and one that the answer does not have.
        ([1, 11], [2, 31, 3]),
        ([1, 10, 2, 30, 3, 1, 12, 2, 30, 3, 1, 11, 2], [31, 3, 9]),
    ],
)
def test_a_completion_that_left_the_answer_is_found_again(
    written: list[int], expected: list[int]
) -> None:
    assert guess(written) == expected


def test_nothing_is_guessed_where_the_answer_ends_or_was_never_met() -> None:
    assert guess(LIKELY) == guess([5]) == guess([10, 5, 5]) == guess([]) == []


def test_nothing_is_guessed_without_room_or_a_likely_answer() -> None:
    assert guess([1], 0) == guess([1], -1) == guess([1], likely=[]) == []


def test_answers_shorter_and_longer_than_what_is_compared_are_followed() -> None:
    long = list(range(100, 200))
    assert guess(long[:50], likely=long) == [150, 151, 152]
    assert guess(long[:50], 99, likely=long) == long[50:]
    assert guess([*long[:50], 7], likely=[7, 8]) == [8]


def chain(num: int, guessed: list[int], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`num` answers of three tokens, by a policy in which a token depends on its place alone."""
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(5))
    guesses = torch.tensor([[*guessed, *[NONE] * (2 - len(guessed))]] * num)
    counts = torch.full((num,), len(guessed))
    rows = logits[: len(guessed) + 1].repeat(num, 1)
    temperatures = torch.full((num,), temperature)
    tokens, logprobs = verify(rows, guesses, counts, temperatures, uniforms(num, 2))
    expected = torch.log_softmax(logits / temperature, -1)
    places = torch.arange(3).expand(num, 3)
    is_written = tokens >= 0
    assert torch.allclose(logprobs[is_written], expected[places, tokens.clamp(min=0)][is_written])
    assert not logprobs[~is_written].any()
    return tokens, expected.exp()


@pytest.mark.parametrize("temperature", [0.7, 1.3])
@pytest.mark.parametrize("guessed", [[], [0], [3, 3], [5, 0]])
def test_guesses_do_not_change_what_is_written(guessed: list[int], temperature: float) -> None:
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
    temperature = torch.tensor([1.0, 1.0, 0.0])
    tokens, _ = verify(certain, guesses, torch.tensor([2, 1, 0]), temperature, uniforms(3, 2))
    assert tokens.tolist() == [[2, 0, 1], [3, NONE, NONE], [0, NONE, NONE]]


def test_greedy_rows_take_the_most_likely_token_beside_sampled_ones() -> None:
    logits = torch.tensor([[0.0, 0.1, 0.05], [0.3, 0.0, 0.2]]).repeat(200, 1)
    guesses = torch.tensor([[1], [2]] * 100)
    counts = torch.ones(200, dtype=torch.long)
    tokens, _ = verify(logits, guesses, counts, torch.zeros(200), uniforms(200, 1))
    assert tokens.tolist() == [[1, 0], [1, NONE]] * 100


def test_a_place_held_open_without_a_guess_is_written_by_the_policy() -> None:
    logits = torch.tensor([[0.0, 2.0], [5.0, 0.0]]).repeat(4000, 1)
    guesses, counts = torch.full((4000, 1), NONE), torch.ones(4000, dtype=torch.long)
    tokens, _ = verify(logits, guesses, counts, torch.ones(4000), uniforms(4000, 1))
    assert (tokens[:, 1] == NONE).all()
    share = (tokens[:, 0] == 1).float().mean().item()
    assert abs(share - 1 / (1 + np.exp(-2))) < 0.02


@pytest.mark.parametrize("height", [0.0, 0.5, 1 - 2**-53])
def test_the_ends_of_chance_never_draw_a_token_that_cannot_be(height: float) -> None:
    logits = torch.tensor([[-1e9, 0.0, 1.0, -1e9]])
    chance = torch.full((1, 1), height, dtype=torch.float64)
    empty = torch.empty(1, 0, dtype=torch.long)
    tokens, logprobs = verify(logits, empty, torch.tensor([0]), torch.ones(1), chance)
    assert tokens.item() in (1, 2)
    assert logprobs.item() > -2


def test_rows_are_drawn_by_their_own_chance_alone() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(3))
    chance = uniforms(3, 0)
    empty, counts = torch.empty(3, 0, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    together, _ = verify(logits.clone(), empty, counts, torch.ones(3), chance)
    for row in range(3):
        one = slice(row, row + 1)
        alone, _ = verify(logits[one].clone(), empty[one], counts[one], torch.ones(1), chance[one])
        assert alone.item() == together[row].item()
