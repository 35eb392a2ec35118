"""Buckets of weights -> a running vLLM model, whichever way they come.

vLLM finds `register` through the entry-point group `vllm.general_plugins` and then offers the
backend under BACKEND, with its usual calls start / update / finish. On a CPU, vLLM replaces a
layer's matrix by a packed copy; loading into such a model changes nothing that is used. So every
packed layer is given a full parameter again before loading and is packed anew afterwards.

Invariant: after `prove` every tensor sent was received, and every layer of this worker computes
with its share of it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from t2g_ray.vllm_private.adapters import without_slots
from t2g_ray.vllm_private.experts import are_experts, pack_experts, restore_experts
from t2g_ray.vllm_private.layers import (
    NoRule,
    is_matrix,
    is_packed,
    pack_layer,
    restore_full_parameter,
)
from t2g_ray.vllm_private.parts import check_private_parts
from t2g_ray.weights.adapters import check_slots, is_of_adapter
from t2g_ray.weights.channels import Link, Rendezvous, SharedBucket, unflatten
from t2g_ray.weights.manifest import (
    Bucket,
    Manifest,
    TensorEntry,
    WeightSyncError,
    bytes_of,
    check_received,
    tensor_from_bytes,
)
from t2g_ray.weights.proof import ShardProof

BACKEND = "t2g_buckets"
_PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2)."""


@dataclass
class BucketInitInfo(WeightTransferInitInfo):
    """The link over which streams come; without one, buckets come with the calls."""

    rendezvous: Rendezvous
    first_rank: int
    """Rank in the link of this engine's first worker."""


@dataclass
class BucketUpdateInfo(WeightTransferUpdateInfo):
    """One bucket and the part of the manifest that describes it; None: all come over the link."""

    bucket: Bucket | SharedBucket | None
    entries: Sequence[TensorEntry] = field(default_factory=tuple)
    is_proven: bool = False
    """Whether to remember what must hold of each tensor, for `prove`."""


class BucketWeightTransferEngine(WeightTransferEngine[BucketInitInfo, BucketUpdateInfo]):
    """Loads buckets into the worker's model; one instance per worker."""

    init_info_cls = BucketInitInfo
    update_info_cls = BucketUpdateInfo

    _link: Link | None = None
    adapter: dict[str, torch.Tensor]
    adapters: dict[int, dict[str, torch.Tensor]]
    """Those that the engine holds, by version."""
    adapter_entries: tuple[TensorEntry, ...]
    """Tensors of an adapter that came in this update, or in the last one."""
    _is_restored = False
    """Whether the update under way brought tensors of the model's own, or the last one did."""
    _is_proven = False
    """Whether it is to be proven, or was."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """vLLM makes it. Raises PrivatePartsMissing before any weight is sent."""
        check_private_parts("worker")
        super().__init__(*arguments, **named)
        self.adapters = {}

    def init_transfer_engine(self, init_info: BucketInitInfo) -> None:
        """Join a link with the learner and the other samplers, which replaces an earlier link."""
        self._link = None
        rank = init_info.first_rank + self.parallel_config.rank
        self._link = Link(init_info.rendezvous, rank=rank, device=self.device)

    @cached_property
    def proof(self) -> ShardProof:
        """What this worker proves. Raises WeightSyncError for a layer of an unknown kind."""
        try:
            with without_slots(self.model):
                return ShardProof(self.model)
        except NoRule as error:
            raise WeightSyncError(str(error)) from error

    def start_weight_update(self) -> None:
        """Begin with nothing received."""
        self.adapter, self.adapter_entries = {}, ()
        self.give_up()

    def give_up(self) -> None:
        """Let the end of an update that failed do nothing."""
        self._is_restored = self._is_proven = False

    def _restore(self) -> None:
        """Give every packed layer full parameters again."""
        self._is_restored = True
        self.proof.begin()
        for layer in _layers(self.model):
            if are_experts(layer):
                # On a GPU they are used as they were loaded.
                if self.device.type == "cpu":
                    restore_experts(layer)
            elif is_packed(layer):
                restore_full_parameter(layer)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Check and load one bucket, or all. The base class waits for an accelerator; a CPU has
        none."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: BucketUpdateInfo) -> None:
        """Compare digests, then load. Raises WeightSyncError with the tensor's name."""
        bucket, entries = update_info.bucket, update_info.entries
        self._is_proven = update_info.is_proven
        if bucket is None:
            if self._link is None:
                raise WeightSyncError("an engine must have a link to the learner, found none")
            for flat, described in self._link.receive():
                self._load_flat(flat, described)
        elif isinstance(bucket, SharedBucket):
            self._load_flat(bucket.open(), entries)
        else:
            check_received(bucket, entries)
            pairs = zip(bucket, entries, strict=True)
            self._load([tensor_from_bytes(data, entry) for data, entry in pairs], entries)

    def _load_flat(self, flat: torch.Tensor, entries: Sequence[TensorEntry]) -> None:
        tensors = unflatten(flat, entries)
        if all(entry.digest for entry in entries):
            check_received([bytes_of(tensor) for tensor in tensors], entries)
        self._load(tensors, entries)

    def _load(self, tensors: Sequence[torch.Tensor], entries: Sequence[TensorEntry]) -> None:
        model: Any = self.model  # vLLM models load by a method that nn.Module does not declare
        own: list[tuple[TensorEntry, torch.Tensor]] = []
        for tensor, entry in zip(tensors, entries, strict=True):
            if is_of_adapter(entry.name):
                check_slots(model, entry.name)
                # A copy: the memory of a bucket is its sender's.
                self.adapter[entry.name] = tensor.to("cpu", copy=True)
                self.adapter_entries += (entry,)
            else:
                own.append((entry, tensor))
        if not own:
            return
        if not self._is_restored:
            self._restore()
        if self._is_proven:
            for entry, tensor in own:
                self.proof.record(entry, tensor)
        with without_slots(model):
            model.load_weights([(entry.name, tensor) for entry, tensor in own])

    def finish_weight_update(self) -> None:
        """Pack every layer anew, the tied head and embedding included.

        Raises WeightSyncError where what was loaded is to be proven and lies in another place.
        """
        if self.device.type != "cpu" or not self._is_restored:
            return
        if self._is_proven:
            self.proof.check_loaded()
        for layer in _layers(self.model):
            if are_experts(layer):
                pack_experts(layer)
            elif is_matrix(layer):
                pack_layer(layer)

    def prove(self, manifest: Manifest | None = None) -> int:
        """Check that this worker computes with what the last proven update brought, which was the
        manifest's tensors where one is given; returns how many there are.

        Raises WeightSyncError that names the first tensor which is missing or differs.
        """
        return self.proof.check() if manifest is None else self.proof.check_manifest(manifest)

    def shutdown(self) -> None:
        """Leave the link."""
        self._link = None


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    return model.modules()


def _end_with_parent() -> None:
    """Let a process of an engine that is killed end as well: the kernel sends it SIGKILL.

    vLLM's own watch is a thread that asks the process to stop; one that waits in a collective for a
    rank that is gone never hears it, and goes on using a whole core or GPU.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent.pid:  # it was killed before
        os.kill(os.getpid(), signal.SIGKILL)


def register() -> None:
    """Offer the backend to vLLM; called by vLLM in each of its processes, maybe twice."""
    _end_with_parent()
    with suppress(ValueError):  # the second time; the name is this project's own
        WeightTransferEngineFactory.register_engine(BACKEND, BucketWeightTransferEngine)
