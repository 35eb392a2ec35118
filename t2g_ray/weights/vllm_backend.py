"""Buckets of weights -> a running vLLM model, whichever way they come.

vLLM finds `register` through the entry-point group `vllm.general_plugins` and then offers the
backend under BACKEND, with its usual calls start / update / finish. On a CPU, vLLM replaces a
layer's matrix by a packed copy; loading into such a model changes nothing that is used. So every
packed layer is given a full parameter again before loading and is packed anew afterwards.

Invariant: after `finish_weight_update` every tensor of the manifest was received once, and after
`verify_model` every layer computes with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
from t2g_ray.vllm_private.parts import check_private_parts
from t2g_ray.vllm_private.worker import (
    is_matrix,
    is_packed,
    layer_name,
    pack_layer,
    product_of,
    quantisation_of,
    restore_full_parameter,
    sources_of,
)
from t2g_ray.weights.adapters import check_slots, is_of_adapter
from t2g_ray.weights.channels import Link, Rendezvous, SharedBucket, unflatten
from t2g_ray.weights.manifest import (
    Bucket,
    Manifest,
    TensorEntry,
    WeightSyncError,
    bytes_of,
    check_received,
    check_sketch,
    digest_of,
    right_probe,
    tensor_from_bytes,
)

BACKEND = "t2g_buckets"

# Relative to the sketch's own size. fp32 sums of some thousand terms differ by about 1e-6.
_SKETCH_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}


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


class BucketWeightTransferEngine(WeightTransferEngine[BucketInitInfo, BucketUpdateInfo]):
    """Loads buckets into the worker's model; one instance per worker."""

    init_info_cls = BucketInitInfo
    update_info_cls = BucketUpdateInfo

    _link: Link | None = None
    received: tuple[TensorEntry, ...] = ()
    """What came over the link in this update, or in the last one."""
    frozen: tuple[TensorEntry, ...] = ()
    """The model's own tensors, in the last update that brought any."""
    adapter: dict[str, torch.Tensor]
    adapter_entries: tuple[TensorEntry, ...]
    """Tensors of an adapter that came in this update, or in the last one."""
    _is_restored = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """vLLM makes it. Raises PrivatePartsMissing before any weight is sent."""
        check_private_parts("worker")
        super().__init__(*arguments, **named)

    def init_transfer_engine(self, init_info: BucketInitInfo) -> None:
        """Join a link with the learner and the other samplers, which replaces an earlier link."""
        self._link = None
        rank = init_info.first_rank + self.parallel_config.rank
        self._link = Link(init_info.rendezvous, rank=rank, device=self.device)

    def start_weight_update(self) -> None:
        """Begin with nothing received."""
        self.received = ()
        self.adapter, self.adapter_entries = {}, ()
        self._is_restored = False

    def _restore(self) -> None:
        """Give every packed layer a full parameter again."""
        self._is_restored, self.frozen = True, ()
        for layer in _layers(self.model):
            if is_packed(layer):
                _restore_parameter(layer)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Check and load one bucket, or all. The base class waits for an accelerator; a CPU has
        none."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: BucketUpdateInfo) -> None:
        """Compare digests, then load. Raises WeightSyncError with the tensor's name."""
        bucket, entries = update_info.bucket, update_info.entries
        if bucket is None:
            if self._link is None:
                raise WeightSyncError("an engine must have a link to the learner, found none")
            for flat, described in self._link.receive():
                self._load_flat(flat, described)
                self.received += described
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
        own: list[tuple[str, torch.Tensor]] = []
        for tensor, entry in zip(tensors, entries, strict=True):
            if is_of_adapter(entry.name):
                check_slots(model, entry.name)
                # A copy: the memory of a bucket is its sender's.
                self.adapter[entry.name] = tensor.to("cpu", copy=True)
                self.adapter_entries += (entry,)
            else:
                own.append((entry.name, tensor))
        if not own:
            return
        if not self._is_restored:
            self._restore()
        self.frozen += tuple(entry for entry in entries if not is_of_adapter(entry.name))
        with without_slots(model):
            model.load_weights(own)

    def finish_weight_update(self) -> None:
        """Pack every layer anew, the tied head and embedding included."""
        if self.device.type != "cpu" or not self._is_restored:
            return
        for layer in _layers(self.model):
            if is_matrix(layer):
                pack_layer(layer)

    def shutdown(self) -> None:
        """Leave the link."""
        self._link = None


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    return model.modules()


def _restore_parameter(layer: nn.Module) -> None:
    quantisation = quantisation_of(layer)
    if quantisation is not None:
        raise WeightSyncError(
            f"layer {layer_name(layer)} must be unquantised to take new weights, found "
            f"{quantisation}; sample from an unquantised model"
        )
    restore_full_parameter(layer)


def verify_model(model: Any, manifest: Manifest) -> int:
    """Check that every layer computes with the manifest's tensors; returns how many were checked.

    Raises WeightSyncError that names the first tensor which is missing or differs. Needs whole
    tensors: a tensor parallel size above 1 holds shards, whose digests no manifest has.
    """
    wanted = {entry.name: entry for entry in manifest.entries}
    checked: set[str] = set()
    for path, layer in model.named_modules():
        for parameter_name in layer._parameters:
            if layer._parameters[parameter_name] is None:
                continue
            entries = _constituents(model, f"{path}.{parameter_name}", wanted)
            _verify_parameter(layer, parameter_name, entries)
            checked.update(entry.name for entry in entries)
    missing = sorted(set(wanted) - checked)
    if missing:
        raise WeightSyncError(
            f"every tensor sent must be used by the sampler, found no use of {missing[0]}"
        )
    return len(checked)


def _constituents(model: Any, name: str, wanted: dict[str, TensorEntry]) -> tuple[TensorEntry, ...]:
    if name in wanted:
        return (wanted[name],)
    sources = sources_of(model, name)
    dropped = [source for source in sources if source not in wanted]
    if dropped:
        raise WeightSyncError(
            f"the sampler's parameter {name} must come from tensor {dropped[0]} of the learner, "
            f"found no such name among the {len(wanted)} sent: the tensor was dropped"
        )
    return tuple(wanted[source] for source in sources)


def _verify_parameter(layer: Any, parameter_name: str, entries: tuple[TensorEntry, ...]) -> None:
    parameter = layer._parameters[parameter_name]
    assert parameter is not None
    if parameter.numel():
        _verify_bytes(parameter.data, entries)
    is_weight = parameter_name == "weight" and all(len(entry.shape) == 2 for entry in entries)
    if is_weight and is_matrix(layer):
        _verify_computation(layer, entries)


def _verify_bytes(data: torch.Tensor, entries: tuple[TensorEntry, ...]) -> None:
    for entry, rows in zip(entries, _split_rows(data, entries), strict=True):
        found = digest_of(bytes_of(rows))
        if found != entry.digest:
            raise WeightSyncError(
                f"the sampler's copy of tensor {entry.name} must have digest {entry.digest}, "
                f"found {found}: it was not loaded, or loaded in another place"
            )


def _verify_computation(layer: Any, entries: tuple[TensorEntry, ...]) -> None:
    dtype = getattr(torch, entries[0].dtype)
    probe = right_probe(entries[0].shape[1]).to(dtype)
    device = next(iter(layer.parameters())).device
    with torch.no_grad():
        product = product_of(layer, probe.to(device))
    for entry, rows in zip(entries, _split_rows(product, entries), strict=True):
        check_sketch(entry, rows, tolerance=_SKETCH_TOLERANCE[dtype])


def _split_rows(data: torch.Tensor, entries: tuple[TensorEntry, ...]) -> Iterator[torch.Tensor]:
    # Rows past the last constituent are padding of the vocabulary.
    start = 0
    for entry in entries:
        yield data[start : start + entry.shape[0]]
        start += entry.shape[0]


def register() -> None:
    """Offer the backend to vLLM; called by vLLM in each of its processes, maybe twice."""
    with suppress(ValueError):  # the second time; the name is this project's own
        WeightTransferEngineFactory.register_engine(BACKEND, BucketWeightTransferEngine)
