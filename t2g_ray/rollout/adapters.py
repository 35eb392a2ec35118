"""The versions of a policy whose adapters an engine holds, and how many that may be.

Invariant: a version is held while an unfinished group was begun under it, and the newest always.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from t2g_ray.config import GrpoConfig, LoraConfig
from t2g_ray.config.learner import MAX_SLOT_RANK
from t2g_ray.vllm_private.worker import weight_receiver, worker_model
from t2g_ray.weights.adapters import (
    LayerProduct,
    check_adapter,
    install,
    is_installed,
    keep_versions,
    number_of,
)
from t2g_ray.weights.manifest import WeightSyncError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, MAX_SLOT_RANK)
"""Ranks that vLLM has slots of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSlots:
    """Room for adapters in an engine."""

    lora: LoraConfig
    number: int
    """Versions that may be held at a time."""


def adapter_slots(config: GrpoConfig) -> AdapterSlots | None:
    """Slots for the newest version, for those that unfinished groups were begun under, and one to
    spare; None where samplers get whole weights."""
    lora = config.learner.lora
    if not lora.rank or lora.sync == "merged":
        return None
    return AdapterSlots(lora=lora, number=config.max_staleness + 2)


def adapter_arguments(model: str, slots: AdapterSlots) -> dict[str, Any]:
    """The slots, as vLLM's engine arguments name them; only layers that get an adapter have any."""
    from t2g_ray.model.lora import adapted_names

    return {
        "enable_lora": True,
        "max_loras": slots.number,
        "max_lora_rank": next(rank for rank in RANKS if rank >= slots.lora.rank),
        "lora_target_modules": adapted_names(model, slots.lora),
    }


def request_of(version: int) -> Any:
    """vLLM's LoRARequest: the adapter that a group is begun under.

    Nothing is read from its path. vLLM looks there for an adapter that it does not hold, and says
    so by this name.
    """
    from vllm.lora.request import LoRARequest

    name = f"version-{version}"
    return LoRARequest(name, number_of(version), f"/no/folder/holds/the/adapter/of/{name}")


def versions_in_use(open_versions: Collection[int], version: int, slots: AdapterSlots) -> set[int]:
    """The versions that must stay while `version` comes.

    `open_versions`: those that unfinished groups were begun under. Raises WeightSyncError where
    there is no room for another.
    """
    in_use = set(open_versions) - {version}
    if len(in_use) >= slots.number:
        raise WeightSyncError(
            f"unfinished groups may be of at most {slots.number - 1} versions when version "
            f"{version} comes, found {sorted(in_use)}; every group must end within max_staleness "
            "steps"
        )
    return in_use


def install_adapter(worker: Any, version: int, in_use: Collection[int]) -> None:
    """In a worker: what arrived last becomes the adapter of `version`; those of versions that are
    not in use leave, and the others stay. Raises WeightSyncError."""
    model, receiver = worker_model(worker), weight_receiver(worker)
    keep_versions(model, in_use)
    held = {one: tensors for one, tensors in receiver.adapters.items() if one in in_use}
    receiver.adapters = held | {version: receiver.adapter}
    # vLLM (0.32) empties all slots at the end of an update: the weights beneath may be others.
    for one, tensors in receiver.adapters.items():
        if one == version or not is_installed(model, one):
            install(model, one, tensors)


def verify_adapter(worker: Any, version: int) -> list[LayerProduct]:
    """In a worker: check the frozen weights, whenever they came, and the adapter of `version`.

    Raises WeightSyncError that names the tensor; what is returned is for `check_products`.
    """
    model, receiver = worker_model(worker), weight_receiver(worker)
    receiver.prove()
    return check_adapter(model, version, receiver.adapter_entries, receiver.adapter)
