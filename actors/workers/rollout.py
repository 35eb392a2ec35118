"""RolloutActor: a vLLM engine on the cluster. Prompts in, groups out as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import ray

from actors.watch.gauges import ActorGauges
from actors.workers.learner import BucketRef
from t2g_ray.rollout import in_turns
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.sampler import SamplerThread
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.run.timing.startup import note_loaded, take_spans
from t2g_ray.run.trace import Span
from t2g_ray.types import Group, Prompt, prompt_key
from t2g_ray.weights.channels import Rendezvous
from t2g_ray.weights.manifest import Manifest

Result = TypeVar("Result")


class RolloutActor:
    """Delegates to SamplerThread. Runs with several Ray threads: one can wait for groups while
    another brings new weights."""

    _actor = "rollout"

    def __init__(self, spec: EngineSpec) -> None:
        note_loaded()
        self._actor = f"rollout/{spec.sampler}"
        start = in_turns.EngineInTurns if spec.takes_turns else GenerationEngine
        self._sampler = SamplerThread(spec, start=start)
        self._gauges = ActorGauges()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, min_version: int
    ) -> Iterator[Group]:
        """Stream of groups; each becomes an object on this node that reward actors fetch."""
        yield from self._sampler.generate(prompts, sampling, min_version=min_version)

    def abort(self, positions: Sequence[int]) -> dict[int, list[int]]:
        """Forget the groups of these training prompts; for each one that was not finished, how
        many tokens each of its open completions had."""
        of_key = {prompt_key("train", position): position for position in positions}
        aborted = self._sampler.abort(of_key)
        return {of_key[key]: lengths for key, lengths in aborted.items()}

    def load(self, manifest: Manifest, buckets: Sequence[BucketRef], verify: bool) -> float:
        """Fetch the buckets from the object store, apply them; returns the load's seconds."""
        received = fetch(buckets)
        seconds = self._sampler.load(manifest, received, verify=verify)
        self._gauges.holds(manifest.version)
        return seconds

    def connect(self, rendezvous: Rendezvous, first_rank: int) -> None:
        """Join the learner's link; this engine's workers are ranks from `first_rank` on."""
        self._sampler.call(lambda engine: engine.connect(rendezvous, first_rank))

    def receive(self, version: int, verify: bool) -> float:
        """Apply what the learner sends over the link; returns the seconds it took."""
        seconds = self._sampler.receive(version, verify=verify)
        self._gauges.holds(version)
        return seconds

    def sleep(self) -> None:
        """Give up the device for the learner's turn."""
        self._sampler.call_traced("sleep", lambda engine: in_turns.of(engine).sleep())

    def take_weights(self) -> None:
        """Take memory for weights, which a load must follow."""
        self._sampler.call_traced("wake", lambda engine: in_turns.of(engine).take_weights())

    def take_cache(self) -> None:
        """Take memory for the cache: prompts may come."""
        self._sampler.call_traced("wake", lambda engine: in_turns.of(engine).take_cache())

    def call(self, function: Callable[[GenerationEngine], Result]) -> Result:
        """Run `function(engine)` between two tokens."""
        return self._sampler.call(function)

    def drain_spans(self) -> list[Span]:
        """Spans since the last call."""
        return [*take_spans(self._actor), *self._sampler.drain_spans()]

    def close(self) -> None:
        """Release the engine."""
        self._sampler.close()

    def device_key(self) -> str:
        """Equal to a learner rank's if, and only if, both compute on one device."""
        return f"{self.node()}/{self._sampler.call(GenerationEngine.device_key)}"

    def node(self) -> str:
        """Id of the node this actor runs on."""
        return str(ray.get_runtime_context().get_node_id())


def fetch(references: Sequence[ray.ObjectRef[Result]]) -> list[Result]:
    """The objects, each copied to this node at most once."""
    return list(ray.get(list(references)))
