"""vLLM's worker -> its model, its receiver of weights, and its check of guesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Any: the classes of vLLM's workers do not declare these attributes. vLLM is imported
# inside functions only, because the check for missing parts must come first.


def worker_model(worker: Any) -> nn.Module:
    """The model that a worker computes with."""
    model: nn.Module = worker.get_model()
    return model


def worker_device(worker: Any) -> torch.device:
    """Where a worker computes."""
    device: torch.device = worker.device
    return device


def weight_receiver(worker: Any) -> Any:
    """The weight transfer engine that a worker was started with."""
    return worker.weight_transfer_engine


@dataclass(frozen=True, slots=True)
class GuessedPass:
    """What one pass of the model has to check, a row for each completion."""

    guesses: Tensor
    """[sum of num_guesses]: one row's after another."""
    num_guesses: list[int]
    temperature: Tensor
    """[rows]; 0 is greedy."""
    drawn_with: list[torch.Generator | None]
    """What each row draws with; None: the generator of the process, as for greedy rows."""
    is_plain: bool
    """Whether only a temperature shapes the distribution."""
    sampling: object
    """vLLM's own description of the sampling, for messages."""


GuessCheck = Callable[[GuessedPass, Tensor], tuple[Tensor, Tensor]]
"""A pass and its logits [rows + guesses, vocabulary], a row's guesses one after the other and then
the token after them -> tokens and log-probs [rows, longest], -1 and 0 after a row's last token."""


def replace_check_of_guesses(worker: Any, check: GuessCheck) -> None:
    """Replace a worker's own check of guesses by `check`."""
    from vllm.v1.outputs import LogprobsTensors, SamplerOutput

    def forward(
        metadata: Any, draft_probs: Tensor | None, logits: Tensor, sampling_metadata: Any
    ) -> SamplerOutput:
        tokens, logprobs = check(_guessed_pass(metadata, draft_probs, sampling_metadata), logits)
        asked = None
        if sampling_metadata.max_num_logprobs is not None:
            # Columns: token, log-prob, rank. Nobody asks for ranks.
            ranks = torch.zeros(tokens.numel(), dtype=torch.int32)
            asked = LogprobsTensors(tokens.reshape(-1, 1).int(), logprobs.reshape(-1, 1), ranks)
        return SamplerOutput(tokens.int(), asked)

    # The rest of the sampler stays: vLLM's model runner calls it as a module.
    worker.model_runner.rejection_sampler.forward = forward


def _guessed_pass(metadata: Any, draft_probs: Tensor | None, sampling: Any) -> GuessedPass:
    num_guesses = metadata.num_draft_tokens
    temperature = sampling.temperature
    is_plain = (
        draft_probs is None
        and sampling.top_p is None
        and sampling.top_k is None
        and sampling.no_penalties
        and not sampling.bad_words_token_ids
        and sampling.allowed_token_ids_mask is None
        and not sampling.max_num_logprobs
    )
    return GuessedPass(
        guesses=metadata.draft_token_ids.long(),
        num_guesses=num_guesses,
        temperature=torch.zeros(len(num_guesses)) if temperature is None else temperature,
        drawn_with=[sampling.generators.get(row) for row in range(len(num_guesses))],
        is_plain=is_plain,
        sampling=sampling,
    )
