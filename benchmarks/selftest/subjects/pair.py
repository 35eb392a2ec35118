"""One learner rank and one rollout actor, with the product's own weight sync between them.

Both can be told to spoil a single tensor of the next sync, which the sync must then name: the
learner on the way, after its digest was taken; the engine after it was loaded, before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, get_all, put, start_alone
from actors.stages.weights import RayWeights
from actors.workers.learner import BucketRef, LearnerActor
from actors.workers.rollout import RolloutActor, fetch
from benchmarks.inputs.workload import first_prompts, ungraded
from benchmarks.selftest.subjects.memory import MemoryUse, memory_use
from t2g_ray.algorithm.loss import loss_divisor
from t2g_ray.config import GrpoConfig
from t2g_ray.learner.learner import learner_spec
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import rollout_spec, sampling_of
from t2g_ray.types import Group, Prompt, SyncReport, TrainReport
from t2g_ray.vllm_private.worker import weight_receiver, worker_model
from t2g_ray.weights.channels import FlatBucket, unflatten
from t2g_ray.weights.manifest import Manifest

_ENGINE_CALLS = 4
"""Calls that the rollout actor serves at a time: generating, loading, questions."""


class SpoilingLearner(LearnerActor):
    """A learner rank that can spoil one tensor of what it sends next."""

    _victim: str | None = None

    def spoil(self, tensor: str) -> None:
        """Change one byte of this tensor in the next sync, after its digest was taken."""
        self._victim = tensor

    def names(self) -> list[str]:
        """Names of all tensors that samplers get with every version."""
        version = self._learner.step_count
        return [name for name, _ in self._learner.sampler_tensors(version, is_whole=False)]

    def device_type(self) -> str:
        """Where it computes."""
        return self._learner.device.type

    def memory(self) -> MemoryUse:
        """Memory of this process."""
        return memory_use()

    def publish(
        self, version: int, bucket_mib: float, is_whole: bool
    ) -> tuple[Manifest, list[BucketRef]] | None:
        """`publish`, and the spoilt tensor instead of its own."""
        sent = super().publish(version, bucket_mib, is_whole)
        if sent is None or self._victim is None:
            return sent
        manifest, references = sent
        for number in range(manifest.num_buckets):
            names = [entry.name for entry in manifest.of_bucket(number)]
            if self._victim in names:
                bucket: Any = fetch(references)[number]
                arrays: Any = [array.copy() for array in bucket]
                arrays[names.index(self._victim)][0] ^= 1
                references[number] = put(arrays).reference
        self._victim = None
        return manifest, references

    def _flat_buckets(
        self, version: int, bucket_mib: float, is_whole: bool, is_proven: bool
    ) -> Iterator[FlatBucket]:
        victim, self._victim = self._victim, None
        for flat, entries in super()._flat_buckets(version, bucket_mib, is_whole, is_proven):
            tensors = unflatten(flat, entries)
            for tensor, entry in zip(tensors, entries, strict=True):
                if entry.name == victim:
                    tensor.view(torch.uint8).view(-1)[0] ^= 1
            yield flat, entries


@dataclass(frozen=True, slots=True)
class Actors:
    """The classes that a pair is made of: what a test of the checks replaces by broken ones."""

    learner: type[SpoilingLearner] = SpoilingLearner
    rollout: type[RolloutActor] = RolloutActor


class Pair:
    """Started actors; every version that goes from one to the other is verified."""

    def __init__(self, config: GrpoConfig, actors: Actors) -> None:
        self.config = config
        learner = config.learner
        tokenizer = load_tokenizer(config.model)
        # More prompts than any check asks for; the first ones may come again.
        self._prompts = [
            prompt for prompt, _ in first_prompts(config, tokenizer, 16 * config.prompts_per_step)
        ]
        self._num_asked = 0
        self._weights: dict[str, RayWeights] = {}
        self.learner: Handle[SpoilingLearner] = start_alone(
            actors.learner,
            *(0, 1, learner.threads, not learner.gpus),
            name="learner/0",
            threads=learner.threads,
            gpus=learner.gpus,
        )
        self._started: list[Handle[Any]] = [self.learner]
        try:
            self._start(actors)
        except BaseException:
            self.close()
            raise

    def _start(self, actors: Actors) -> None:
        config, rollout = self.config, self.config.rollout
        address, port = get_all([self.learner.call(SpoilingLearner.address)])[0]
        spec = learner_spec(config, config.model)
        joined = self.learner.call(SpoilingLearner.start, address, port, spec)
        if config.learner.gpus:
            # The engine measures what is free when it starts.
            get_all([joined])
        self.rollout: Handle[RolloutActor] = start_alone(
            actors.rollout,
            rollout_spec(config, config.model),
            name="rollout/0",
            threads=rollout.threads,
            gpus=rollout.gpus,
            max_concurrency=_ENGINE_CALLS,
        )
        self._started.append(self.rollout)
        get_all([joined])
        self.rollout.wait_until_ready()
        self.version = 0
        """Of the learner's weights: the steps that it took."""

    def publish(self, transport: str | None = None) -> SyncReport:
        """Send the learner's weights by the product's own sync, and have all of them verified."""
        name = transport or self.config.sync.transport
        if name not in self._weights:
            sync = self.config.sync.model_copy(update={"transport": name, "verify_every": 1})
            changed = self.config.model_copy(update={"sync": sync, "max_staleness": 0})
            learners, fleet = [self.learner], Fleet([self.rollout])
            self._weights[name] = RayWeights(changed, learners=learners, fleet=fleet)
        return self._weights[name].publish(self.version)

    def generate(self) -> list[Group]:
        """Groups of the next prompts, written by the weights that were sent last."""
        size = self.config.prompts_per_step
        begin = self._num_asked % len(self._prompts)
        self._num_asked += size
        return self.write(self._prompts[begin : begin + size])

    def write(self, prompts: Sequence[Prompt]) -> list[Group]:
        """Groups of these prompts, in their order."""
        sampling = sampling_of(self.config)
        stream = self.rollout.stream(RolloutActor.generate, prompts, sampling, self.version)
        groups = get_all(one for one in iter(stream.next, None) if one is not None)
        return sorted(groups, key=lambda group: group.prompt.index)

    def first_prompts(self) -> list[Prompt]:
        """Prompts of one step."""
        return self._prompts[: self.config.prompts_per_step]

    def train(self, groups: Sequence[Group]) -> TrainReport:
        """One optimiser step on these groups, with advantages that favour early completions."""
        size = self.config.group_size
        advantages: list[list[float | None]] = [
            [1.0 - 2.0 * i / (size - 1) for i in range(size)] for _ in groups
        ]
        handles = [put(ungraded(group)).reference for group in groups]
        lengths = [len(one.token_ids) for group in groups for one in group.completions]
        divisor = loss_divisor(lengths, self.config.algorithm, self.config.sampling.max_new_tokens)
        step = self.learner.call(SpoilingLearner.step, handles, advantages, divisor)
        report = get_all([step])[0]
        self.version += 1
        return report

    def tensor_to_spoil(self) -> str:
        """A matrix that engines keep under the learner's own name, fused with no other."""
        names = get_all([self.learner.call(SpoilingLearner.names)])[0]
        ends = ("down_proj.weight", "o_proj.weight", "norm.weight", "")
        return next(name for end in ends for name in names[::-1] if name.endswith(end))

    def spoil_in_transit(self, tensor: str) -> None:
        """Let one byte of the tensor change on its way in the next sync."""
        get_all([self.learner.call(SpoilingLearner.spoil, tensor)])

    def spoil_after_load(self, tensor: str, rank: int = 0) -> None:
        """Let one worker of the engine lose the tensor's values in the next sync."""

        def arm(engine: GenerationEngine) -> None:
            engine._call(_spoil_loaded, tensor, rank)

        self.ask(arm)

    def ask(self, function: Callable[[GenerationEngine], Any]) -> Any:
        """Run `function(engine)` between two tokens."""
        return get_all([self.rollout.call(RolloutActor.call, function)])[0]

    def devices(self) -> tuple[str, str]:
        """Kinds of the devices that learner and engine compute on."""
        learner = get_all([self.learner.call(SpoilingLearner.device_type)])[0]
        engine = str(self.ask(GenerationEngine.device_key))
        return learner, "cpu" if engine == "cpu" else "cuda"

    def memory(self) -> dict[str, MemoryUse]:
        """Actor -> its memory."""
        return {
            "learner": get_all([self.learner.call(SpoilingLearner.memory)])[0],
            "rollout": self.ask(memory_use),
        }

    def close(self) -> None:
        """End both actors."""
        for handle in self._started:
            handle.kill()


def _spoil_loaded(worker: Any, tensor: str, rank: int) -> None:
    """In an engine's worker: halve the tensor between load and use, once."""
    if int(worker.rank) != rank:
        return
    receiver = weight_receiver(worker)
    finish = receiver.finish_weight_update

    def finish_with_a_fault() -> None:
        receiver.finish_weight_update = finish
        dict(worker_model(worker).named_parameters())[tensor].data.mul_(0.5)
        finish()

    receiver.finish_weight_update = finish_with_a_fault
