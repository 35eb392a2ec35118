"""vLLM's layers -> what each rank of an engine holds of their matrices, and how it packs them.

On a CPU vLLM replaces a layer's matrix by a packed copy and leaves an empty parameter behind.

Invariant: a layer that was packed, restored, loaded and packed again computes as one that was
loaded first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

# Any: the classes of vLLM's layers do not declare these attributes. vLLM is imported inside
# functions only, because the check for missing parts must come first.


class NoRule(ValueError):
    """Nobody wrote down what a rank holds of such a layer; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """How a layer's matrix is spread over the ranks of an engine.

    stacked      the rows of each constituent, one matrix after the other
    columns      the columns; biases are whole
    vocabulary   the rows, padded to a multiple
    whole        every rank has all of it
    """

    kind: Literal["stacked", "columns", "vocabulary", "whole"]
    rank: int = 0
    size: int = 1
    full: tuple[int, ...] = ()
    """Length of the axis that is cut, of each constituent's tensor."""
    copies: tuple[int, ...] = ()
    """How many ranks hold the same part of a constituent (key and value heads may be fewer than
    ranks)."""
    padded: int = 0
    """Rows of the vocabulary, its padding included."""


def facts_of(layer: Any, path: str) -> LayerFacts:
    """Raises NoRule, with `path`, for a layer that is quantised or of an unknown kind."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    _check_unquantised(layer, path)
    if is_linear(layer):
        return _linear_facts(layer, path)
    if isinstance(layer, VocabParallelEmbedding):
        return LayerFacts(
            kind="vocabulary",
            rank=layer.tp_rank,
            size=layer.tp_size,
            full=(layer.org_vocab_size,),
            padded=layer.num_embeddings_padded,
        )
    return _other_facts(layer, path)


def _check_unquantised(layer: Any, path: str) -> None:
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    method = getattr(layer, "quant_method", None)
    known = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
    if is_matrix(layer) and not isinstance(method, known):
        raise NoRule(
            f"layer {path} must be unquantised to take new weights, found "
            f"{type(method).__name__}; sample from an unquantised model"
        )


def _linear_facts(layer: Any, path: str) -> LayerFacts:
    from vllm.model_executor.layers import linear

    rank, size = layer.tp_rank, layer.tp_size
    kind: Any = type(layer)
    if issubclass(kind, linear.ReplicatedLinear):
        full = tuple(layer.output_partition_sizes)
        return LayerFacts(kind="stacked", full=full, copies=(1,) * len(full))
    if issubclass(kind, linear.RowParallelLinear):
        return LayerFacts(kind="columns", rank=rank, size=size, full=(layer.input_size,))
    # Not subclasses: some of them cut in ways of their own.
    plain = (linear.ColumnParallelLinear, linear.MergedColumnParallelLinear)
    local = tuple(layer.output_partition_sizes)
    if size == 1 or kind in plain:
        full = tuple(rows * size for rows in local)
        copies = (1,) * len(full)
    elif kind is linear.QKVParallelLinear:
        copies = (1, layer.num_kv_head_replicas, layer.num_kv_head_replicas)
        full = tuple(rows * size // same for rows, same in zip(local, copies, strict=True))
    else:
        raise _no_rule(layer, path)
    return LayerFacts(kind="stacked", rank=rank, size=size, full=full, copies=copies)


def _other_facts(layer: nn.Module, path: str) -> LayerFacts:
    from vllm.distributed import get_tensor_model_parallel_world_size
    from vllm.model_executor.layers.layernorm import GemmaRMSNorm, LayerNorm, RMSNorm

    norms = (RMSNorm, GemmaRMSNorm, LayerNorm, nn.LayerNorm)
    if type(layer) not in norms and get_tensor_model_parallel_world_size() > 1:
        raise _no_rule(layer, path)
    return LayerFacts(kind="whole")


def _no_rule(layer: nn.Module, path: str) -> NoRule:
    return NoRule(
        f"layer {path} must be of a kind whose shards are known, found "
        f"{type(layer).__name__}; set rollout.tensor_parallel=1, or add the kind's rule to "
        "t2g_ray/vllm_private/layers.py"
    )


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


def restore_full_parameter(layer: Any) -> None:
    """Give an unquantised linear layer an empty full matrix again, to load into: this rank's
    share of it."""
    layer.quant_method.create_weights(
        layer=layer,
        input_size_per_partition=getattr(layer, "input_size_per_partition", layer.input_size),
        output_partition_sizes=layer.output_partition_sizes,
        input_size=layer.input_size,
        output_size=layer.output_size,
        params_dtype=layer.params_dtype,
        weight_loader=_loader(layer),
    )
    # A new parameter takes the engine's rank, which is not that of a layer that all ranks share.
    layer.update_param_tp_status()


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
    """Product of this rank's share of a layer's matrix and a vector, without the bias."""
    product: Tensor = layer.quant_method.apply(layer, probe[None, :], None)[0]
    return product


_STACKS = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
"""Models leave out of their mapping what adapters do not need."""


def sources_of(model: Any, parameter: str) -> list[str]:
    """Names of the tensors of a checkpoint that are, row after row, one parameter of the model."""
    if parameter == "lm_head.weight" and model.config.tie_word_embeddings:
        return ["model.embed_tokens.weight"]
    for fused, parts in (_STACKS | getattr(model, "packed_modules_mapping", {})).items():
        if f".{fused}." in parameter:
            return [parameter.replace(f".{fused}.", f".{part}.") for part in parts]
    return [parameter]
