"""vLLM's fused experts -> what each rank of an engine holds of them, and how it packs them.

All experts of a layer are two arrays: gates and ups under one another [experts, 2 x intermediate,
hidden], and downs [experts, hidden, intermediate]; of the intermediate axis every rank has a share.
On a CPU the arrays are laid out anew for its kernel, in the same number of bytes and without a
mark; a second packing would only copy them.

Invariant: experts that were packed, restored, loaded and packed again compute as those that were
loaded first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from t2g_ray.vllm_private.layers import NoRule
from t2g_ray.vllm_private.parts import check_private_parts

# Any: vLLM's classes do not declare these attributes.


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertFacts:
    """How a layer's experts are spread over the ranks, and the names of their tensors."""

    name: str
    """`{name}.{number}.{gate}.weight` is an expert's gate."""
    gate: str
    up: str
    down: str
    num_experts: int
    rank: int
    size: int
    intermediate: int
    """Of a whole expert."""
    up_row: int
    """Where the ups begin in the first array."""


def are_experts(layer: nn.Module) -> bool:
    """Whether the layer holds the experts of one block."""
    # The name, so that a vLLM without fused experts of this kind serves other models.
    return any(base.__name__ == "RoutedExperts" for base in type(layer).__mro__)


def expert_facts(layer: Any, path: str) -> ExpertFacts:
    """Raises NoRule, with `path`, where it is not known what a rank holds or computes."""
    check_private_parts("experts")
    config = layer.moe_config
    reason = _without_rule(layer, config)
    if reason is not None:
        raise NoRule(
            f"the experts of {path} must be unquantised and cut along their width, found {reason}"
        )
    return ExpertFacts(
        name=layer.layer_name,
        gate=layer.ckpt_gate_proj_name,
        up=layer.ckpt_up_proj_name,
        down=layer.ckpt_down_proj_name,
        num_experts=config.num_experts,
        rank=config.tp_rank,
        size=config.tp_size,
        intermediate=config.intermediate_size_per_partition_unpadded * config.tp_size,
        up_row=config.intermediate_size_per_partition,
    )


def _without_rule(layer: Any, config: Any) -> str | None:
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import (
        UnquantizedFusedMoEMethod,
    )

    method = layer.quant_method
    if not isinstance(method, UnquantizedFusedMoEMethod):
        return f"{type(method).__name__}; sample from an unquantised model"
    backend = method.unquantized_backend.name
    if backend not in ("CPU", "TRITON"):
        # Others lay arrays out in an order of their own, also on GPUs.
        return f"the kernels of {backend}; set rollout.engine.moe_backend=triton"
    if layer.use_ep or config.num_local_experts != config.num_experts:
        return "expert parallelism; leave enable_expert_parallel out of rollout.engine"
    if config.num_logical_experts != config.num_experts:
        return "copies of experts; leave enable_eplb out of rollout.engine"
    if config.has_bias or not config.is_act_and_mul or config.activation.value != "silu":
        return "biases, or another activation than silu with a gate: the project has no rule for it"
    return None


def restore_experts(layer: Any) -> None:
    """Give packed experts empty arrays again, to load into: this rank's share of them."""
    layer.quant_method.create_weights(
        layer=layer,
        num_experts=layer.local_num_experts,
        hidden_size=layer.hidden_size,
        intermediate_size_per_partition=layer.moe_config.intermediate_size_per_partition,
        params_dtype=layer.params_dtype,
        weight_loader=layer.weight_loader,
    )


def pack_experts(layer: Any) -> None:
    """Let restored experts compute with what was loaded."""
    # With a kernel at hand vLLM takes new arrays for packed ones.
    layer.quant_method.moe_kernel = None
    layer.quant_method.process_weights_after_loading(layer)


def expert_products(layer: Any, probe: Tensor) -> Tensor:
    """What each expert makes of a vector [hidden] with this rank's share: [experts, hidden]."""
    count = layer.local_num_experts
    product: Tensor = layer.quant_method.apply(
        layer=layer,
        x=probe.repeat(count, 1),
        topk_weights=torch.ones(count, 1, device=probe.device),
        topk_ids=torch.arange(count, dtype=torch.int32, device=probe.device)[:, None],
        shared_experts=None,
        shared_experts_input=None,
    )
    return product
