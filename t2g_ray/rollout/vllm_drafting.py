"""Guesses in vLLM: its place for them, and the check that stands in for vLLM's own.

Only engines on CPUs use this. vLLM's rejection sampler there divides by temperatures that were
never written (0.32: `expand_kernel` fills a copy of its output), and computes more than is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.rejection_sampler import RejectionSampler

from t2g_ray.rollout.drafting import NONE, verify


class NoDrafts:
    """The proposer that vLLM wants to have: it guesses nothing, which leaves it to the owner."""

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
    worker.model_runner.rejection_sampler = Verifier(worker.model_runner.sampler)


class Verifier(RejectionSampler):
    """Checks guesses of plain sampling: a temperature, the token's own log-prob, one generator."""

    def forward(
        self, metadata: Any, draft_probs: Tensor | None, logits: Tensor, sampling_metadata: Any
    ) -> SamplerOutput:
        """`logits` [rows + guesses, vocabulary], a row's guesses one after the other and then the
        token after them. Raises RuntimeError for sampling that is not plain."""
        _check_plain(draft_probs, sampling_metadata)
        num_guesses = torch.tensor(metadata.num_draft_tokens)
        temperature = sampling_metadata.temperature
        if temperature is None:
            temperature = torch.zeros(len(num_guesses))
        guesses = _as_rows(metadata.draft_token_ids.long(), num_guesses)
        tokens, logprobs = verify(logits, guesses, num_guesses, temperature)
        if sampling_metadata.max_num_logprobs is None:
            return SamplerOutput(sampled_token_ids=tokens.int(), logprobs_tensors=None)
        return SamplerOutput(
            sampled_token_ids=tokens.int(),
            logprobs_tensors=LogprobsTensors(
                logprob_token_ids=tokens.reshape(-1, 1).int(),
                logprobs=logprobs.reshape(-1, 1),
                # Nobody asks for ranks.
                selected_token_ranks=torch.zeros(tokens.numel(), dtype=torch.int32),
            ),
        )


def _as_rows(values: Tensor, counts: Tensor) -> Tensor:
    """Values one row after the other -> [rows, longest], -1 behind the shorter ones."""
    is_there = torch.arange(int(counts.max())) < counts.unsqueeze(1)
    table = torch.full(is_there.shape, NONE)
    table[is_there] = values
    return table


def _check_plain(draft_probs: Tensor | None, sampling: Any) -> None:
    is_plain = (
        draft_probs is None
        and sampling.top_p is None
        and sampling.top_k is None
        and sampling.no_penalties
        and not sampling.generators
        and not sampling.bad_words_token_ids
        and sampling.allowed_token_ids_mask is None
        and not sampling.max_num_logprobs
    )
    if not is_plain:
        raise RuntimeError(
            "completions with guessed tokens must be sampled by temperature alone, found "
            f"{sampling}; set rollout.draft_tokens=0"
        )
