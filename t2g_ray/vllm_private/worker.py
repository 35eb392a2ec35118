"""vLLM's worker -> its model, its layers and their packed matrices, and its check of guesses.

On a CPU vLLM replaces a layer's matrix by a packed copy and leaves an empty parameter behind.

Invariant: a layer that was packed, restored, loaded and packed again computes as one that was
loaded first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Any: the classes of vLLM's workers and layers do not declare these attributes. vLLM is imported
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


def is_linear(layer: nn.Module) -> bool:
    """Whether the layer is a matrix between hidden states."""
    from vllm.model_executor.layers.linear import LinearBase

    return isinstance(layer, LinearBase)


def is_matrix(layer: nn.Module) -> bool:
    """Whether the layer has a matrix: a linear one, or an embedding that may be a head too."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    return is_linear(layer) or isinstance(layer, VocabParallelEmbedding)


def is_packed(layer: Any) -> bool:
    """Whether only a packed copy of the matrix is left."""
    return is_linear(layer) and layer.weight.numel() == 0


def layer_name(layer: Any) -> str:
    """As the model names a linear layer."""
    return str(layer.prefix)


def quantisation_of(layer: Any) -> str | None:
    """vLLM's name of how a linear layer is quantised; None: it is not."""
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    method = layer.quant_method
    return None if isinstance(method, UnquantizedLinearMethod) else type(method).__name__


def restore_full_parameter(layer: Any) -> None:
    """Give an unquantised linear layer an empty full matrix again, to load into."""
    layer.quant_method.create_weights(
        layer=layer,
        input_size_per_partition=getattr(layer, "input_size_per_partition", layer.input_size),
        output_partition_sizes=layer.output_partition_sizes,
        input_size=layer.input_size,
        output_size=layer.output_size,
        params_dtype=layer.params_dtype,
        weight_loader=_loader(layer),
    )


def _loader(layer: Any) -> Any:
    from vllm.model_executor.layers.linear import WEIGHT_LOADER_V2_SUPPORTED

    wants_second = type(layer.quant_method).__name__ in WEIGHT_LOADER_V2_SUPPORTED
    # Layers that every worker holds whole (ReplicatedLinear) have the first loader alone.
    has_second = hasattr(layer, "weight_loader_v2")
    return layer.weight_loader_v2 if wants_second and has_second else layer.weight_loader


def pack_layer(layer: Any) -> None:
    """Let a layer with a matrix compute with what was loaded."""
    if layer.quant_method is not None:
        layer.quant_method.process_weights_after_loading(layer)


def product_of(layer: Any, probe: Tensor) -> Tensor:
    """Product of a layer's matrix and a vector, without the bias."""
    product: Tensor = layer.quant_method.apply(layer, probe[None, :], None)[0]
    return product


def sources_of(model: Any, parameter: str) -> list[str]:
    """Names of the tensors of a checkpoint that are, row after row, one parameter of the model."""
    if parameter == "lm_head.weight" and model.config.tie_word_embeddings:
        return ["model.embed_tokens.weight"]
    # Models that keep every matrix by itself need not have the mapping.
    for fused, parts in getattr(model, "packed_modules_mapping", {}).items():
        if f".{fused}." in parameter:
            return [parameter.replace(f".{fused}.", f".{part}.") for part in parts]
    return [parameter]


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
