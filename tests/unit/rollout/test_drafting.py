"""Guesses at the next tokens, and the check that keeps them from changing the distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from t2g_ray.rollout.drafting import NONE, Guesser, verify

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
