"""A likely answer -> guesses at the next tokens -> those of them that the policy would write.

The graph that a record is graded by is also the best guess at what the policy will write. A pass
of the model checks many guessed tokens for little more than the price of writing one.

Invariant: the tokens are distributed as if none had been guessed, and each has the log-prob that
the policy gives it (speculative sampling with a draft that is certain of its tokens: Leviathan et
al. 2023, arXiv:2211.17192, Algorithm 1). A wrong guess costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

NONE = -1
"""In place of a token id where there is no token."""

MAX_SUFFIX = 16
"""Tokens of the end of what is written that are looked for in the likely answer."""

_GREEDY_BELOW = 1e-5
"""vLLM's own bound: temperatures under it mean the most likely token."""


def guess(written: Sequence[int], likely: Sequence[int], limit: int) -> list[int]:
    """At most `limit` tokens of `likely` that may come after `written`.

    They follow the place that agrees with the most of the last tokens written; where several
    agree with as many, the first of them. Nothing is guessed where not even the last token agrees.
    """
    # As characters, so that Python's own search does the work.
    text, end = _text(likely), _text(written[-MAX_SUFFIX:])
    for start in range(len(end)):
        place = text.find(end[start:])
        if place >= 0:
            first = place + len(end) - start
            return list(likely[first : first + max(0, limit)])
    return []


def _text(token_ids: Sequence[int]) -> str:
    return "".join(map(chr, token_ids))


def verify(
    logits: Tensor, guesses: Tensor, num_guesses: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens and their log-probs, both [rows, guesses + 1], -1 and 0 after a row's last token.

    `logits` [sum of num_guesses + rows, vocabulary] are changed; `guesses` [rows, guesses] holds
    -1 where there is none; `num_guesses` and `temperature` [rows], temperature 0 is greedy.
    """
    num_rows, width = guesses.shape[0], guesses.shape[1] + 1
    rows = torch.arange(num_rows)
    is_greedy = temperature < _GREEDY_BELOW
    scale = torch.where(is_greedy, 1.0, temperature).repeat_interleave(num_guesses + 1)
    logprobs = logits.float().div_(scale.unsqueeze(1)).log_softmax(-1)
    first = (num_guesses + 1).cumsum(0) - num_guesses - 1
    column = torch.arange(width)
    # [rows, width]: where the logits of a row's tokens stand; rows with fewer repeat their last.
    places = first.unsqueeze(1) + torch.minimum(column, num_guesses.unsqueeze(1))
    of_guesses = logprobs[places[:, :-1], guesses.clamp(min=0)]
    stands = torch.rand(guesses.shape, dtype=torch.float64) < of_guesses.double().exp()
    if bool(is_greedy.any()):
        best = logprobs.argmax(-1)[places[:, :-1]]
        stands = torch.where(is_greedy.unsqueeze(1), best == guesses, stands)
    num_standing = (stands & (guesses >= 0)).long().cumprod(1).sum(1)
    own = _own_token(
        logprobs[places[rows, num_standing]],
        pad(guesses, (0, 1), value=NONE)[rows, num_standing],
        is_greedy,
    )
    tokens = pad(guesses, (0, 1), value=NONE)
    tokens[rows, num_standing] = own
    tokens[column > num_standing.unsqueeze(1)] = NONE
    chosen = logprobs[places, tokens.clamp(min=0)]
    return tokens, torch.where(tokens >= 0, chosen, 0.0)


def _own_token(logprobs: Tensor, refused: Tensor, is_greedy: Tensor) -> Tensor:
    """A token [rows] of the distribution [rows, vocabulary] without the guess that fell."""
    rest = logprobs.exp()
    fell = (refused >= 0).nonzero().squeeze(1)
    kept = rest[fell, refused[fell]].clone()
    rest[fell, refused[fell]] = 0.0
    # A guess of all the probability that there is cannot fall but by rounding.
    empty = rest[fell].sum(1) == 0
    rest[fell[empty], refused[fell[empty]]] = kept[empty]
    drawn = (rest / torch.empty_like(rest).exponential_()).argmax(-1)
    return torch.where(is_greedy, logprobs.argmax(-1), drawn)
