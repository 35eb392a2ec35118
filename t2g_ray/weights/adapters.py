"""Adapters of a learner <-> tensors among others, and the proof that an engine computes with them.

Beside a frozen matrix W lie A and B, and the layer computes W x + B A x. Of each such layer three
tensors travel: A; B, with the adapter's scaling in it; and a sketch u.(B A x) with fixed vectors u
and x, computed by the learner's own layer. Digests show that A and B arrived whole, that they lie
in the slots which the engine multiplies with, and that no older ones do; the sketch shows that the
layer adds what the learner's adds, its scaling included.

Invariant: each version is an adapter of its own number in the engine, so that what was begun under
one version ends under it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from t2g_ray.vllm_private.adapters import (
    AdapterRefused,
    HeldPair,
    Pair,
    held_pairs,
    holds_adapters,
    install_adapter,
    installed,
    probe_products,
    remove_adapters,
)
from t2g_ray.weights.expectations import TOLERANCE
from t2g_ray.weights.manifest import (
    TensorEntry,
    WeightSyncError,
    bytes_of,
    digest_of,
    left_probe,
    right_probe,
    sketch_of,
)

_A, _B, _SKETCH = ".lora_A.weight", ".lora_B.weight", ".lora_sketch"


def adapter_tensors(
    layer: str, a: Tensor, b: Tensor, product: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one layer under the names that they travel by.

    A [rank, inputs]; B [outputs, rank], scaled; `product` [outputs] of the learner's own layer for
    the input `right_probe(inputs)`.
    """
    yield layer + _A, a
    yield layer + _B, b
    yield layer + _SKETCH, torch.tensor(sketch_of(product), dtype=torch.float64)


def is_of_adapter(name: str) -> bool:
    """Whether a tensor of this name is part of an adapter."""
    return name.endswith((_A, _B, _SKETCH))


def number_of(version: int) -> int:
    """vLLM's number of the adapter of a version; it counts from 1."""
    return version + 1


def keep_versions(model: Any, versions: Collection[int]) -> None:
    """Take the adapters of all other versions out of the engine."""
    remove_adapters(model, keep=[number_of(version) for version in versions])


def is_installed(model: Any, version: int) -> bool:
    """Whether the engine holds the adapter of a version."""
    return number_of(version) in installed(model)


def check_slots(model: Any, name: str) -> None:
    """Raises WeightSyncError where the engine has no slots for the tensor `name` of an adapter."""
    if not holds_adapters(model):
        raise WeightSyncError(
            f"an engine must be started with slots for adapters to take tensor {name}, found none; "
            "start engine and learner with the same learner.lora.sync"
        )


def install(model: Any, version: int, tensors: Mapping[str, Tensor]) -> None:
    """Make the tensors of one version an adapter of the engine.

    Raises WeightSyncError where one of a layer's is missing, or the engine cannot hold them.
    """
    if not tensors:
        raise WeightSyncError(
            f"version {version} must come with adapters, found none; start engine and learner with "
            "the same learner.lora.sync"
        )
    pairs: dict[str, Pair] = {}
    for name in tensors:
        layer = _layer_of(name)
        missing = [layer + part for part in (_A, _B, _SKETCH) if layer + part not in tensors]
        if missing:
            raise WeightSyncError(
                f"an adapter must come with all its tensors, found no {missing[0]} in version "
                f"{version}"
            )
        pairs[layer] = (tensors[layer + _A], tensors[layer + _B])
    try:
        install_adapter(model, number_of(version), pairs)
    except AdapterRefused as error:
        raise WeightSyncError(f"adapter of version {version}: {error}") from error


@dataclass(frozen=True, slots=True)
class LayerProduct:
    """What one worker adds to the sketch of one layer, and what the sketch must be."""

    layer: str
    found: float
    sketch: float
    scale: float
    tolerance: float


def check_adapter(
    model: Any, version: int, entries: Sequence[TensorEntry], tensors: Mapping[str, Tensor]
) -> list[LayerProduct]:
    """Compare what this worker holds of a version with the manifest, byte for byte.

    `tensors` are those that arrived with the entries. Raises WeightSyncError that names the first
    tensor which differs. Returns the worker's share of each sketch, for `check_products`.
    """
    held = {pair.layer: pair for pair in held_pairs(model, number_of(version))}
    wanted = {entry.name: entry for entry in entries}
    layers = list(dict.fromkeys(_layer_of(name) for name in wanted))
    for layer in layers:
        if layer not in held:
            raise WeightSyncError(
                f"tensor {layer + _A} of version {version} must lie in a slot of the engine, found "
                f"no such layer in its adapter (adapters held: {_versions(model)})"
            )
        _check_bytes(held[layer], wanted, version)
    others = sorted(set(held) - set(layers))
    if others:
        raise WeightSyncError(
            f"an adapter must be made of the tensors sent, found one of {others[0]} in version "
            f"{version} besides"
        )
    found = probe_products(
        model,
        number_of(version),
        left={layer: left_probe(len(pair.arrived[1])) for layer, pair in held.items()},
        right={layer: right_probe(pair.arrived[0].shape[1]) for layer, pair in held.items()},
    )
    return [
        LayerProduct(
            layer=layer,
            found=found[layer],
            sketch=float(tensors[layer + _SKETCH][0]),
            scale=float(tensors[layer + _SKETCH][1]),
            tolerance=TOLERANCE[held[layer].slot[0].dtype],
        )
        for layer in layers
    ]


def check_products(workers: Sequence[Sequence[LayerProduct]]) -> None:
    """Compare each layer's sum over the workers with its sketch; raises WeightSyncError by name."""
    for shares in zip(*workers, strict=True):
        one = shares[0]
        found = sum(share.found for share in shares)
        limit = one.tolerance * one.scale
        if not math.isclose(found, one.sketch, rel_tol=0.0, abs_tol=limit):
            raise WeightSyncError(
                f"the adapter of layer {one.layer} must add what the learner's adds (sketch "
                f"{one.sketch:.8g}), found {found:.8g}: it is scaled otherwise, or the engine "
                "computes with another adapter"
            )


def _check_bytes(pair: HeldPair, wanted: Mapping[str, TensorEntry], version: int) -> None:
    parts = zip((_A, _B), pair.arrived, pair.share, pair.slot, strict=True)
    for part, arrived, share, slot in parts:
        entry = wanted[pair.layer + part]
        found = digest_of(bytes_of(arrived))
        if found != entry.digest:
            raise WeightSyncError(
                f"the engine's copy of tensor {entry.name} must have digest {entry.digest} in "
                f"version {version}, found {found}: it was not installed, or is of another version"
            )
        rows, columns = share.shape
        rest = slot.clone()
        rest[:rows, :columns] = 0
        is_there = slot.dtype == share.dtype and torch.equal(
            slot[:rows, :columns].cpu(), share.cpu()
        )
        if not is_there or bool(rest.any()):
            raise WeightSyncError(
                f"worker {pair.worker} must compute with tensor {entry.name} of version {version}, "
                "found other numbers in its slot: it was not put there, or was changed since"
            )


def _versions(model: Any) -> str:
    return ", ".join(f"version {number - 1}" for number in installed(model)) or "none"


def _layer_of(name: str) -> str:
    for part in (_A, _B, _SKETCH):
        if name.endswith(part):
            return name.removesuffix(part)
    raise ValueError(f"a tensor of an adapter must end with {_A}, {_B} or {_SKETCH}, found {name}")
