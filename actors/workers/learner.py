"""LearnerActor: one DeepSpeed rank on the cluster. Scored groups in by reference, weights out."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray
import torch

from actors.watch.gauges import ActorGauges
from t2g_ray.algorithm.samples import to_samples
from t2g_ray.learner.learner import Learner, LearnerSpec
from t2g_ray.learner.ranks import join_ranks
from t2g_ray.learner.turns.parking import release_memory
from t2g_ray.learner.turns.taking import DeviceMemory, LearnerTurns
from t2g_ray.run.checkpoint import Share, share_of
from t2g_ray.run.timing.startup import note_loaded, part, take_spans
from t2g_ray.run.trace import Span, Tracer
from t2g_ray.types import ScoredGroup, TrainReport
from t2g_ray.weights.channels import (
    FlatBucket,
    Link,
    Rendezvous,
    SharedBucket,
    device_key,
    flat_buckets,
    offer,
)
from t2g_ray.weights.manifest import (
    MIB,
    Bucket,
    Manifest,
    TensorEntry,
    WeightSyncError,
    pack_buckets,
)

LEARNER = "learner"
"""Folder of the ranks' files in a checkpoint."""

BucketRef = ray.ObjectRef[Bucket | SharedBucket]


class LearnerActor:
    """Delegates to Learner. Methods are collective: the caller calls them on all ranks."""

    def __init__(self, rank: int, num_ranks: int, threads: int, is_cpu: bool) -> None:
        note_loaded()
        torch.set_num_threads(threads)
        self._rank, self._num_ranks, self._is_cpu = rank, num_ranks, is_cpu
        self._tracer = Tracer(f"learner/{rank}")
        self._gauges = ActorGauges()
        self._link: Link | None = None
        self._kept: list[object] = []
        """Memory that samplers on this device read the weights from."""

    def address(self) -> tuple[str, int]:
        """This node's address and a free port, for rank 0 to be found at."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        return ray.util.get_node_ip_address(), port

    def start(self, address: str, port: int, spec: LearnerSpec) -> None:
        """Join the other ranks and build the model."""
        join_ranks(
            rank=self._rank,
            num_ranks=self._num_ranks,
            address=address,
            port=port,
            is_cpu=self._is_cpu,
        )
        self._learner = Learner(spec)
        self._turns = LearnerTurns(self._learner)

    def rehearse(self, prompt_tokens: int, new_tokens: int) -> None:
        """Compute the largest micro-batch once, so that memory stands where it will stand."""
        with part("rehearsal"):
            self._turns.rehearse(prompt_tokens=prompt_tokens, new_tokens=new_tokens)

    def device_memory(self) -> DeviceMemory:
        """Where the memory of this rank's device stands."""
        return self._turns.memory()

    def leave(self) -> None:
        """Move what the optimiser holds off the device, for an engine's turn."""
        with self._tracer.span("leave", step=self._learner.step_count):
            self._turns.leave()

    def come_back(self) -> None:
        """Bring it back to the device."""
        with self._tracer.span("come back", step=self._learner.step_count):
            self._turns.come_back()

    def drop_copy(self) -> None:
        """Give up what `share` copied, once all engines loaded it."""
        self._kept = []
        release_memory(self._device())

    def step(
        self,
        handles: Sequence[ray.ObjectRef[ScoredGroup]],
        advantages: Sequence[Sequence[float | None]],
        divisor: float,
    ) -> TrainReport:
        """Fetch this rank's groups and take one step with the other ranks."""
        self._turns.check_there("an optimiser step")
        version = self._learner.step_count
        with self._tracer.span("wait", step=version):
            groups: list[ScoredGroup] = ray.get(list(handles))
        with self._tracer.span("train", step=version):
            samples = to_samples(groups, advantages)
            report = self._learner.step(samples, divisor=divisor)
        self._tracer.extend(self._learner.phases.spans(self._tracer.actor, version))
        self._gauges.holds(self._learner.step_count)
        return report

    def publish(
        self, version: int, bucket_mib: float, is_whole: bool
    ) -> tuple[Manifest, list[BucketRef]] | None:
        """Rank 0: put the weights into the object store, a bucket at a time, and describe them.

        The other ranks take part in the gathers and return None. Where adapters are sent alone,
        `is_whole` says whether the frozen weights go with them.
        """
        with self._tracer.span("gather", step=version):
            if self._rank > 0:
                self._learner.only_gather(is_whole=is_whole)
                return None
            entries: list[TensorEntry] = []
            references: list[BucketRef] = []
            tensors = self._learner.sampler_tensors(version, is_whole=is_whole)
            for bucket, part in pack_buckets(tensors, bucket_bytes=int(bucket_mib * MIB)):
                references.append(ray.put(bucket))
                entries.extend(part)
        return _manifest(version, entries), references

    def connect(self, rendezvous: Rendezvous) -> None:
        """Rank 0: open the link over which `broadcast` sends, instead of an earlier one."""
        self._link = None
        self._link = Link(rendezvous, rank=0, device=self._device())

    def broadcast(
        self, version: int, bucket_mib: float, is_whole: bool, is_proven: bool
    ) -> Manifest | None:
        """Like `publish`, but send the weights over the link."""
        with self._tracer.span("gather", step=version):
            if self._rank > 0:
                self._learner.only_gather(is_whole=is_whole)
                return None
            if self._link is None:
                raise WeightSyncError("the learner must have a link to the samplers, found none")
            buckets = self._flat_buckets(version, bucket_mib, is_whole, is_proven)
            entries = [entry for part in self._link.send(buckets) for entry in part]
        return _manifest(version, entries)

    def share(
        self,
        version: int,
        bucket_mib: float,
        is_whole: bool,
        is_proven: bool,
        is_source: bool,
    ) -> tuple[Manifest, list[BucketRef]] | None:
        """Copy the weights to memory that samplers on this device open, and describe them.

        The copy stays until the next call or `drop_copy`. A rank that is no source, since no
        sampler is on its device, takes part in the gathers and returns None.
        """
        self._kept = []
        entries: list[TensorEntry] = []
        references: list[BucketRef] = []
        with self._tracer.span("gather", step=version):
            if not is_source:
                self._learner.only_gather(is_whole=is_whole)
                return None
            for flat, part in self._flat_buckets(version, bucket_mib, is_whole, is_proven):
                bucket, kept = offer(flat)
                self._kept.append(kept)
                references.append(ray.put(bucket))
                entries.extend(part)
            if self._device().type != "cpu":
                torch.accelerator.synchronize()
        return _manifest(version, entries), references

    def _flat_buckets(
        self, version: int, bucket_mib: float, is_whole: bool, is_proven: bool
    ) -> Iterator[FlatBucket]:
        return flat_buckets(
            self._learner.sampler_tensors(version, is_whole=is_whole),
            bucket_bytes=int(bucket_mib * MIB),
            is_proven=is_proven,
        )

    def device_key(self) -> str:
        """Equal to a rollout actor's if, and only if, both compute on one device."""
        return f"{self.node()}/{device_key(self._device())}"

    def _device(self) -> torch.device:
        return self._learner.device

    def save(self, checkpoint: Path) -> Share:
        """Write this rank's share of the training state into the temporary folder of a checkpoint,
        whoever has the device, and digest it."""
        with self._tracer.span("checkpoint", step=self._learner.step_count):
            written = self._turns.save(checkpoint / LEARNER)
            writer = f"learner/{self._rank} on node {ray.util.get_node_ip_address()}"
            return share_of(writer, checkpoint, written, self.node())

    def load(self, checkpoint: Path) -> None:
        """Restore what `save` wrote."""
        self._turns.check_there("a restore")
        self._learner.load(checkpoint / LEARNER)

    def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face format."""
        self._learner.export(folder)

    def drain_spans(self) -> list[Span]:
        """Spans since the last call."""
        return [*take_spans(self._tracer.actor), *self._tracer.drain()]

    def node(self) -> str:
        """Id of the node this actor runs on."""
        return str(ray.get_runtime_context().get_node_id())


def _manifest(version: int, entries: Sequence[TensorEntry]) -> Manifest:
    num_buckets = entries[-1].bucket + 1 if entries else 0
    return Manifest(version=version, entries=tuple(entries), num_buckets=num_buckets)
