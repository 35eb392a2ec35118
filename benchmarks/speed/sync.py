"""Learner tensors -> a loaded sampler, for random models of several sizes: seconds, bytes, calls.

The path is the product's own: `RayWeights` between a learner actor and a rollout actor. Only the
training state is left out, so that large models fit where their optimiser would not. A second pass
times each part of that path alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, get_all, put, start_alone
from actors.cluster.placement import connect
from actors.cluster.refusal import check_device
from actors.stages.weights import RayWeights
from actors.workers.learner import LearnerActor
from actors.workers.rollout import RolloutActor, fetch
from benchmarks.inputs.random_model import SIZES, write_random_model
from benchmarks.result import ResultRow, check_count, make_row
from benchmarks.speed.traffic import CountingGroup, CountingHandle, PeakMemory, Traffic
from t2g_ray.config import GrpoConfig, LoraConfig
from t2g_ray.learner.learner import Learner
from t2g_ray.model.lora import adapters_of, add_adapters
from t2g_ray.model.policy import load_policy
from t2g_ray.rollout.adapters import adapter_slots
from t2g_ray.rollout.spec import rollout_spec
from t2g_ray.weights.channels import Rendezvous
from t2g_ray.weights.manifest import (
    MIB,
    Bucket,
    Manifest,
    TensorEntry,
    check_received,
    pack_buckets,
)

PARTS = ("pack", "put", "get", "digest", "load", "pack_kernels", "verify")

Timings = dict[str, list[float]]


class _Untrained(Learner):
    """A learner's own way from its policy to what it sends, without an optimiser."""

    def __init__(self, config: GrpoConfig, model: str) -> None:
        policy, _ = load_policy(model)
        if config.learner.lora.rank:
            _add_moved_adapters(policy, config.learner.lora)
        self.engine = SimpleNamespace(module=SimpleNamespace(policy=policy))
        self.device = policy.device
        # The policy is whole, in fp32: nothing has to be gathered.
        self._settings = config.learner.model_copy(update={"zero_stage": 0})
        self._sampler_dtype, self._seed = config.rollout.dtype, config.seed


def _add_moved_adapters(policy: Any, lora: LoraConfig) -> None:
    """Adapters that are no longer 0, so that a sync which forgets one is noticed."""
    add_adapters(policy, lora, seed=0)
    generator = torch.Generator().manual_seed(0)
    for adapter in adapters_of(policy):
        b = adapter.parts[1]
        b.data.copy_(0.01 * torch.randn(b.shape, generator=generator))


class WeightSource(LearnerActor):
    """A learner rank without optimiser: it only publishes."""

    def __init__(self, config: GrpoConfig, model: str) -> None:
        super().__init__(rank=0, num_ranks=1, threads=config.learner.threads, is_cpu=True)
        self._learner = _Untrained(config, model)
        self._group = CountingGroup(None)

    def num_bytes(self, is_whole: bool) -> int:
        """Bytes of a version as samplers take them: of all its tensors, or of what changes."""
        tensors = (tensor for _, tensor in self._learner.sampler_tensors(0, is_whole=is_whole))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def connect(self, rendezvous: Rendezvous) -> None:
        """`connect`; what goes over the link is counted."""
        super().connect(rendezvous)
        link: Any = self._link
        link._group = self._group = CountingGroup(link._group)

    def num_sent(self) -> int:
        """Messages over the link so far."""
        return self._group.count

    def timed_publish(self, version: int, bucket_mib: float) -> tuple[Any, dict[str, float]]:
        """`publish`, and the seconds of its two halves."""
        entries: list[TensorEntry] = []
        references: list[Any] = []
        pack_s = put_s = 0.0
        mark = time.perf_counter()
        tensors = self._learner.sampler_tensors(version)
        for bucket, part in pack_buckets(tensors, bucket_bytes=int(bucket_mib * MIB)):
            pack_s += time.perf_counter() - mark
            mark = time.perf_counter()
            references.append(put(bucket).reference)
            put_s += time.perf_counter() - mark
            entries.extend(part)
            mark = time.perf_counter()
        manifest = Manifest(version=version, entries=tuple(entries), num_buckets=len(references))
        return (manifest, references), {"pack": pack_s, "put": put_s}


class WeightSink(RolloutActor):
    """A rollout actor that can also time the parts of a load."""

    def timed_load(self, manifest: Manifest, buckets: Sequence[Any]) -> dict[str, float]:
        """`load` with verification, and the seconds of its parts."""
        started = time.perf_counter()
        received = fetch(buckets)
        get_s = time.perf_counter() - started
        parts: dict[str, float] = self._sampler.call(
            lambda engine: _time_load(engine, manifest, received)
        )
        return {"get": get_s, **parts}


def _time_load(engine: Any, manifest: Manifest, buckets: Sequence[Bucket]) -> dict[str, float]:
    marks = [time.perf_counter()]
    parts = [manifest.of_bucket(number) for number in range(manifest.num_buckets)]
    for bucket, entries in zip(buckets, parts, strict=True):
        check_received(bucket, entries)
    marks.append(time.perf_counter())
    engine._call("start_weight_update")
    for bucket, entries in zip(buckets, parts, strict=True):
        update = {"bucket": bucket, "entries": entries, "is_proven": True}
        engine._call("update_weights", update)
    marks.append(time.perf_counter())
    engine._call("finish_weight_update")
    marks.append(time.perf_counter())
    engine.verify(manifest)
    marks.append(time.perf_counter())
    digest_s, load_s, kernels_s, verify_s = (b - a for a, b in pairwise(marks))
    # `update_weights` compares the digests once more before it loads.
    return {
        "digest": digest_s,
        "load": load_s - digest_s,
        "pack_kernels": kernels_s,
        "verify": verify_s,
    }


def run(config: GrpoConfig, *, runs: int, sizes: Sequence[str] = tuple(SIZES)) -> list[ResultRow]:
    """Rows for each size, smallest first; the rows without a size are of the largest one."""
    check_device(config.device)
    connect()
    rows: list[ResultRow] = []
    figures: Timings = {}
    for size in sizes:
        # One size at a time: a large model is in memory four times, and the next one with it
        # would be too much for a small machine.
        with tempfile.TemporaryDirectory(prefix="t2g_sync_") as folder:
            figures = _measure(config, write_random_model(Path(folder), size), runs)
        rows += _rows_of_size(size, figures)
        if size == "demo":
            rows.append(make_row("demo_policy_ms", figures["ms"], "ms"))
    return [
        *rows,
        make_row("gb_per_s", figures["gb_per_s"], "GB/s"),
        *(
            make_row(name, figures[name], unit)
            for name, unit in (("messages", "count"), ("driver_peak_growth_mib", "MiB"))
            if name in figures
        ),
    ]


def _rows_of_size(size: str, figures: Timings) -> list[ResultRow]:
    units = {
        "gb_per_s": "GB/s",
        "messages": "count",
        "driver_peak_growth_mib": "MiB",
        "mib": "MiB",
        "share_of_merged": "share",
    }
    return [
        make_row(f"{name}/{size}", values, units.get(name, "ms"))
        for name, values in figures.items()
    ]


def _measure(config: GrpoConfig, model: str, runs: int) -> Timings:
    # Where adapters are sent, the frozen weights come with the first sync.
    is_adapter = adapter_slots(config) is not None
    spec = rollout_spec(config, model, load_weights=not is_adapter)
    learner = start_alone(
        WeightSource, config, model, name="learner/0", threads=config.learner.threads
    )
    rollout = start_alone(
        WeightSink,
        spec,
        name="rollout/0",
        threads=config.rollout.threads,
        gpus=config.rollout.gpus,
        max_concurrency=4,
    )
    try:
        figures = _time_publish(config, learner, rollout, runs)
        if not is_adapter:
            figures.update(_time_parts(config, learner, rollout, runs))
    finally:
        learner.kill()
        rollout.kill()
    return figures


def _time_publish(
    config: GrpoConfig, learner: Handle[WeightSource], rollout: Handle[WeightSink], runs: int
) -> Timings:
    traffic, memory = Traffic(), PeakMemory()
    weights = RayWeights(
        config.model_copy(update={"max_staleness": 0}),
        learners=[CountingHandle("learner/0", learner.actor, traffic=traffic)],
        fleet=Fleet([CountingHandle("rollout/0", rollout.actor, traffic=traffic)]),
    )
    # The first two syncs are verified, as in a run; what is timed are those that follow.
    versions = iter(v for v in range(1, 10**9) if v % config.sync.verify_every)
    calls = [learner.call(WeightSource.num_bytes, is_whole) for is_whole in (False, True)]
    num_bytes, num_whole = get_all(calls)
    for _ in range(2):
        weights.publish(next(versions))
    figures: Timings = {name: [] for name in ("ms", "mib", "gb_per_s", "messages")}
    if num_whole > num_bytes:
        figures["share_of_merged"] = []
    if memory.is_kept:
        figures["driver_peak_growth_mib"] = []
    for _ in range(runs):
        traffic.calls = traffic.references = 0
        sent = get_all([learner.call(WeightSource.num_sent)])[0]
        memory.start()
        started = time.perf_counter()
        report = weights.publish(next(versions))
        seconds = time.perf_counter() - started
        if memory.is_kept:
            figures["driver_peak_growth_mib"].append(memory.growth() / MIB)
        check_count("bytes", report.num_bytes, num_bytes)
        figures["ms"].append(1000 * seconds)
        figures["mib"].append(num_bytes / MIB)
        if num_whole > num_bytes:
            figures["share_of_merged"].append(num_bytes / (num_whole - num_bytes))
        figures["gb_per_s"].append(report.num_bytes / 1e9 / seconds)
        over_link = get_all([learner.call(WeightSource.num_sent)])[0] - sent
        figures["messages"].append(traffic.messages + over_link)
    return figures


def _time_parts(
    config: GrpoConfig, learner: Handle[WeightSource], rollout: Handle[WeightSink], runs: int
) -> Timings:
    figures: Timings = {f"{part}_ms": [] for part in PARTS}
    for number in range(runs):
        version = 10**9 + number
        call = learner.call(WeightSource.timed_publish, version, config.sync.bucket_mib)
        ((manifest, references), seconds) = get_all([call])[0]
        load = rollout.call(WeightSink.timed_load, manifest, references)
        seconds |= get_all([load])[0]
        for part in PARTS:
            figures[f"{part}_ms"].append(1000 * seconds[part])
    return figures
