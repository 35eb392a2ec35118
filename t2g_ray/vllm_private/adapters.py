"""vLLM's adapters: a number and pairs of matrices <-> slots that the layers compute from.

vLLM reads adapters from folders. Here they come as tensors, so they are handed to the manager that
holds them. Its slots are the matrices that layers multiply with: those of stacked layers (qkv,
gate_up) hold one pair for each of their parts, and each worker of a tensor-parallel engine holds
the rows or columns that belong to its share of the layer.

Invariant: nothing is evicted to make room; whoever installs an adapter removes one first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Any: vLLM's classes do not declare these attributes. vLLM is imported inside functions only,
# because the check for missing parts must come first.

Pair = tuple[Tensor, Tensor]
"""A [rank, inputs] and B [outputs, rank]; B A is added to the layer's matrix."""


class AdapterRefused(ValueError):
    """An engine cannot hold an adapter; the message says why."""


def holds_adapters(model: Any) -> bool:
    """Whether the model was started with slots for adapters."""
    return getattr(model, "lora_manager", None) is not None


@contextmanager
def without_slots(model: Any) -> Iterator[None]:
    """Inside the block, layers and parameters have the names that they have without slots.

    Models load by these names, and only some of vLLM's loaders know of the layers around them.
    """
    modules = model.lora_manager.modules if holds_adapters(model) else {}
    places = {
        name: (model.get_submodule(name.rpartition(".")[0]), module)
        for name, module in modules.items()
    }
    for name, (parent, module) in places.items():
        setattr(parent, name.rpartition(".")[2], module.base_layer)
    try:
        yield
    finally:
        for name, (parent, module) in places.items():
            setattr(parent, name.rpartition(".")[2], module)


def installed(model: Any) -> list[int]:
    """Numbers of the adapters that the model holds."""
    return sorted(model.lora_manager.list_adapters())


def remove_adapters(model: Any, *, keep: Collection[int]) -> None:
    """Empty the slots of all adapters but these."""
    for number in installed(model):
        if number not in keep:
            model.lora_manager.remove_adapter(number)


def install_adapter(model: Any, number: int, pairs: Mapping[str, Pair]) -> None:
    """Hold the pairs, by the layers' names in a checkpoint, as adapter `number` (from 1).

    Raises AdapterRefused that names a layer which has no slots, or where none is free.
    """
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.lora_weights import LoRALayerWeights

    manager = model.lora_manager
    unknown = sorted(set(pairs) - _layers(model))
    if unknown:
        raise AdapterRefused(
            f"every adapted layer must have slots in the engine, found none of {unknown[0]}; name "
            "layers that vLLM adapts in learner.lora.targets, or set learner.lora.sync=merged"
        )
    manager.remove_adapter(number)
    if len(installed(model)) >= manager.lora_slots:
        raise AdapterRefused(
            f"one of {manager.lora_slots} slots for adapters must be free, found them taken by "
            f"{installed(model)}"
        )
    layers = {
        # Scaling 1: vLLM would multiply B by it in place, the sender's own memory included.
        layer: LoRALayerWeights(layer, len(a), len(a), a, b, 1.0)
        for layer, (a, b) in pairs.items()
    }
    manager.add_adapter(LoRAModel(number, max(len(a) for a, _ in pairs.values()), layers))
    manager.activate_adapter(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPair:
    """One adapted layer of one adapter, in one worker."""

    layer: str
    """As a checkpoint names it."""
    worker: int
    """Rank of the worker among those that share the layer."""
    arrived: Pair
    """What was installed, whole."""
    share: Pair
    """This worker's part of it, by vLLM's own rule."""
    slot: Pair
    """What the layer multiplies with: views of the slot, which may be of a larger rank."""


def held_pairs(model: Any, number: int) -> Iterator[HeldPair]:
    """Every layer of an adapter; nothing where it is not held."""
    for name, module, weights in _held_modules(model, number):
        parts, arrived = _parts(model, name, weights)
        shares = _shares(module, arrived)
        index = model.lora_manager.lora_index_to_id.index(number)
        stacked = zip(module.lora_a_stacked, module.lora_b_stacked, strict=True)
        for part, pair, share, slots in zip(parts, arrived, shares, stacked, strict=True):
            if pair is not None:
                slot = (slots[0][index, 0], slots[1][index, 0])
                yield HeldPair(
                    layer=part,
                    worker=module.tp_rank,
                    arrived=pair,
                    share=share,
                    slot=slot,
                )


def probe_products(
    model: Any, number: int, left: Mapping[str, Tensor], right: Mapping[str, Tensor]
) -> dict[str, float]:
    """For each adapted layer u.y, where y is what the layer adds to its output for the input x.

    `left` and `right` hold u [outputs] and x [inputs] of each layer. Each worker adds its share:
    the sum over the workers is the layer's.
    """
    from vllm.lora.layers import LoRAMapping

    manager = model.lora_manager
    # As for a pass with one token of this adapter; a pass that follows sets its own.
    manager.set_adapter_mapping(LoRAMapping((number,), (number,), is_prefill=True))
    products: dict[str, float] = {}
    for name, module, weights in _held_modules(model, number):
        parts, arrived = _parts(model, name, weights)
        first = next(part for part, pair in zip(parts, arrived, strict=True) if pair is not None)
        # The probes are cut as the matrices are: x as a row of A, u as a column of B.
        probes = [
            None if pair is None else (right[first][None, :], left[part][:, None])
            for part, pair in zip(parts, arrived, strict=True)
        ]
        shares = _shares(module, probes)
        row = next(share[0] for share in shares if share is not None)
        slot = module.lora_a_stacked[0]
        x = row.to(device=slot.device, dtype=slot.dtype).contiguous()
        y = torch.zeros(1, sum(module.output_slices), device=slot.device, dtype=slot.dtype)
        module.punica_wrapper.add_lora_linear(
            y, x, module.lora_a_stacked, module.lora_b_stacked, 1.0, module.output_slices
        )
        rows = y[0].to("cpu", torch.float64).split(list(module.output_slices))
        for part, share, product in zip(parts, shares, rows, strict=True):
            if share is not None:
                u = share[1][:, 0].to(torch.float64)
                whole = len(left[part]) * len(right[part])
                # Above 1 where workers hold the same rows, as of keys and values of few heads.
                num_copies = module.tp_size * len(u) * row.shape[1] / whole
                products[part] = float(u @ product) / num_copies
    return products


def _held_modules(model: Any, number: int) -> Iterator[tuple[str, Any, Any]]:
    manager = model.lora_manager
    adapter = manager.list_adapters().get(number)
    if adapter is None or number not in manager.lora_index_to_id:
        return
    for name, module in manager.modules.items():
        weights = adapter.get_lora(name)
        if weights is not None:
            yield name, module, weights


def _parts(model: Any, name: str, weights: Any) -> tuple[list[str], list[Pair | None]]:
    """Names and pairs of the layers of a checkpoint that one layer of the model keeps as one."""
    parts = model.lora_manager.packed_modules.get(name)
    if parts is None:
        return [name], [(weights.lora_a, weights.lora_b)]
    pairs = zip(weights.lora_a, weights.lora_b, strict=True)
    return parts, [None if a is None else (a, b) for a, b in pairs]


def _shares(module: Any, pairs: list[Pair | None]) -> list[Any]:
    """This worker's part of each pair, where the layer is shared."""
    if module.tp_size == 1:
        return list(pairs)
    if len(module.lora_a_stacked) == 1 and pairs[0] is not None:
        a, b = pairs[0]
        return [(module.slice_lora_a(a), module.slice_lora_b(b))]
    a_parts = module.slice_lora_a([None if pair is None else pair[0] for pair in pairs])
    b_parts = module.slice_lora_b([None if pair is None else pair[1] for pair in pairs])
    return [None if a is None else (a, b) for a, b in zip(a_parts, b_parts, strict=True)]


def _layers(model: Any) -> set[str]:
    """Names in a checkpoint of all layers with slots."""
    manager = model.lora_manager
    return {part for name in manager.modules for part in manager.packed_modules.get(name, [name])}
