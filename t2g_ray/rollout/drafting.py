"""A likely answer -> guesses at the next tokens -> those of them that the policy would write.

The gold graph of a record is also the best guess at what the policy will write, and a pass of the
model checks many guessed tokens for little more than the cost of writing one.

Invariant: the tokens are distributed as if none had been guessed, and each has the log-prob that
the policy gives it (speculative sampling with a draft that is certain of its tokens: Leviathan et
al. 2023, arXiv:2211.17192, Algorithm 1). A wrong guess costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

NONE = -1
"""In place of a token id where there is no token."""

NUM_COMPARED = 16
"""How many of the tokens written last are compared with the likely answer."""

_FADING = 0.6
"""Weight of a token relative to the one after it; chosen from 0.3 to 0.95 by runs of the demo."""
_WEIGHTS = _FADING ** np.arange(NUM_COMPARED - 1, -1, -1)

_GREEDY_BELOW = 1e-5
"""vLLM's own bound: temperatures under it mean the most likely token."""


class Guesser:
    """Guesses how a completion goes on, from one likely answer.

    The guess continues the answer from where it agrees best with the tokens written last, of which
    later ones count more. So a completion that departed from the answer is found again, and one
    that wrote another name is continued after that name.
    """

    def __init__(self, likely: Sequence[int]) -> None:
        self._likely = list(likely)
        padded = np.concatenate([np.full(NUM_COMPARED, NONE), np.asarray(self._likely, np.int64)])
        # [tokens, NUM_COMPARED]: row i ends with token i of the answer.
        self._before = np.lib.stride_tricks.sliding_window_view(padded, NUM_COMPARED)[1:]

    def guess(self, written: Sequence[int], limit: int) -> list[int]:
        """At most `limit` tokens; none where neither of the last two written fits the answer."""
        if not self._likely or not written or limit <= 0:
            return []
        last = np.asarray(written[-NUM_COMPARED:], np.int64)
        agreement = (self._before[:, -len(last) :] == last) @ _WEIGHTS[-len(last) :]
        best = int(agreement.argmax())
        if agreement[best] < _FADING:
            return []
        return self._likely[best + 1 : best + 1 + limit]


def verify(
    logits: Tensor, guesses: Tensor, num_guesses: Tensor, temperature: Tensor, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens and their log-probs, both [rows, guesses + 1], -1 and 0 after a row's last token.

    `logits` [sum of num_guesses + rows, vocabulary] are changed; `guesses` [rows, guesses] holds
    -1 where there is none; `num_guesses` and `temperature` [rows], temperature 0 is greedy.
    `uniforms` [rows, guesses + 1], float64 in [0, 1), are all the chance there is: one for each
    guess of a row, and one for the token after them.
    """
    num_rows, width = guesses.shape[0], guesses.shape[1] + 1
    rows = torch.arange(num_rows)
    is_greedy = temperature < _GREEDY_BELOW
    scale = torch.where(is_greedy, 1.0, temperature).repeat_interleave(num_guesses + 1)
    logprobs = logits.float().div_(scale.unsqueeze(1)).log_softmax(-1)
    first = (num_guesses + 1).cumsum(0) - num_guesses - 1
    column = torch.arange(width)
    # [rows, width]: indices of the logits of each row's tokens; shorter rows repeat their last.
    places = first.unsqueeze(1) + torch.minimum(column, num_guesses.unsqueeze(1))
    of_guesses = logprobs[places[:, :-1], guesses.clamp(min=0)]
    stands = uniforms[:, :-1] < of_guesses.double().exp()
    if bool(is_greedy.any()):
        best = logprobs.argmax(-1)[places[:, :-1]]
        stands = torch.where(is_greedy.unsqueeze(1), best == guesses, stands)
    num_standing = (stands & (guesses >= 0)).long().cumprod(1).sum(1)
    tokens = pad(guesses, (0, 1), value=NONE)
    tokens[rows, num_standing] = _own_token(
        logprobs[places[rows, num_standing]],
        tokens[rows, num_standing],
        is_greedy,
        uniforms[rows, num_guesses],
    )
    tokens[column > num_standing.unsqueeze(1)] = NONE
    chosen = logprobs[places, tokens.clamp(min=0)]
    return tokens, torch.where(tokens >= 0, chosen, 0.0)


def _own_token(logprobs: Tensor, refused: Tensor, is_greedy: Tensor, uniforms: Tensor) -> Tensor:
    """Draw a token [rows] from the distribution [rows, vocabulary] without the refused guess."""
    rest = logprobs.double().exp_()
    fell = (refused >= 0).nonzero().squeeze(1)
    kept = rest[fell, refused[fell]].clone()
    rest[fell, refused[fell]] = 0.0
    # A guess with probability 1 can only be refused through rounding.
    empty = rest[fell].sum(1) == 0
    rest[fell[empty], refused[fell[empty]]] = kept[empty]
    below = rest.cumsum(1)
    total = below[:, -1]
    # Below the total, so that a token with a probability is found.
    height = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(below, height.unsqueeze(1), right=True).squeeze(1)
    return torch.where(is_greedy, logprobs.argmax(-1), drawn)
