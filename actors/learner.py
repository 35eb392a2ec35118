"""LearnerActor: one DeepSpeed rank on the cluster. Scored groups in by reference, weights out."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from t2g_ray.learner import Learner, LearnerSpec
from t2g_ray.ranks import join_ranks
from t2g_ray.samples import to_samples
from t2g_ray.trace import Span, Tracer
from t2g_ray.weights import MIB, Manifest, TensorEntry, pack_buckets


class LearnerActor:
    """Delegates to Learner. Methods are collective: the caller invokes all ranks alike."""

    def __init__(self, rank: int, num_ranks: int, threads: int, is_cpu: bool) -> None:
        import torch

        torch.set_num_threads(threads)
        self._rank, self._num_ranks, self._is_cpu = rank, num_ranks, is_cpu
        self._tracer = Tracer(f"learner/{rank}")

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

    def step(
        self,
        handles: Sequence[Any],
        advantages: Sequence[Sequence[float | None]],
        divisor: float,
    ) -> dict[str, float]:
        """Fetch this rank's groups and take one optimiser step with the other ranks."""
        version = self._learner.step_count
        with self._tracer.span("wait", step=version):
            groups = ray.get(list(handles))
        with self._tracer.span("train", step=version):
            samples = to_samples(groups, advantages)
            return self._learner.step(samples, divisor=divisor)

    def publish(self, version: int, bucket_mib: float) -> tuple[Manifest, list[Any]] | None:
        """Rank 0: put the weights into the object store, a bucket at a time, and describe them.

        The other ranks take part in the gathers and return None.
        """
        with self._tracer.span("gather", step=version):
            tensors = self._learner.named_tensors()
            if self._rank > 0:
                for _ in tensors:
                    pass
                return None
            entries: list[TensorEntry] = []
            references: list[Any] = []
            for bucket, part in pack_buckets(tensors, bucket_bytes=int(bucket_mib * MIB)):
                references.append(ray.put(bucket))
                entries.extend(part)
        manifest = Manifest(version=version, entries=tuple(entries), num_buckets=len(references))
        return manifest, references

    def save(self, folder: Path) -> None:
        """Write this rank's share of the training state."""
        with self._tracer.span("checkpoint", step=self._learner.step_count):
            self._learner.save(folder)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""
        self._learner.load(folder)

    def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face format."""
        self._learner.export(folder)

    def drain_spans(self) -> list[Span]:
        """Trace since the last call."""
        return self._tracer.drain()

    def node(self) -> str:
        """Id of the node this actor runs on."""
        return str(ray.get_runtime_context().get_node_id())
