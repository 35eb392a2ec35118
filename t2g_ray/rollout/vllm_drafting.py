"""Guesses in vLLM: where it keeps them, and the check that replaces vLLM's own.

Only engines on CPUs use this. vLLM's rejection sampler there divides by temperatures that were
never written (0.32: `expand_kernel` fills a copy of its output), and computes more than is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from t2g_ray.rollout.drafting import NONE, verify
from t2g_ray.vllm_private.worker import GuessedPass, replace_check_of_guesses


class NoDrafts:
    """The proposer that vLLM requires; it proposes nothing and leaves guessing to
    `GenerationEngine`."""

    def __init__(self, vllm_config: object) -> None:
        """vLLM passes its settings."""

    def load_model(self, *_: object, **__: object) -> None:
        """There is no model to load."""

    def propose(
        self, sampled_token_ids: Sequence[Sequence[int]], *_: object, **__: object
    ) -> list[list[int]]:
        """No guess for any row."""
        return [[] for _ in sampled_token_ids]


def install_verifier(worker: Any) -> None:
    """Let a worker of vLLM check guesses by `verify`."""
    replace_check_of_guesses(worker, _check_guesses)


def _check_guesses(asked: GuessedPass, logits: Tensor) -> tuple[Tensor, Tensor]:
    if not asked.is_plain:
        raise RuntimeError(
            "completions with guessed tokens must be sampled by temperature alone, found "
            f"{asked.sampling}; set rollout.draft_tokens=0"
        )
    num_guesses = torch.tensor(asked.num_guesses)
    guesses = _as_rows(asked.guesses, num_guesses)
    uniforms = torch.zeros(len(guesses), guesses.shape[1] + 1, dtype=torch.float64)
    # Each row draws from its own generator, as many numbers as it has guesses and one more, so that
    # what is written beside it changes nothing.
    for row, generator in enumerate(asked.drawn_with):
        count = asked.num_guesses[row] + 1
        uniforms[row, :count] = torch.rand(count, dtype=torch.float64, generator=generator)
    return verify(logits, guesses, num_guesses, asked.temperature, uniforms)


def _as_rows(values: Tensor, counts: Tensor) -> Tensor:
    """Values one row after the other -> [rows, longest], shorter rows filled with -1."""
    is_there = torch.arange(int(counts.max())) < counts.unsqueeze(1)
    table = torch.full(is_there.shape, NONE)
    table[is_there] = values
    return table
