"""Settings and the shape of a model -> the memory of one engine, and the sequences it has room for.

vLLM takes a share of a GPU, needs a part of that for weights, its largest pass and its graphs, and
makes the rest its KV cache. On a CPU the cache has a size of its own, all of it taken at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

from t2g_ray.config import GrpoConfig
from t2g_ray.planning.memory.held import GIB, MIB, MOMENTS, Footprint, Held
from t2g_ray.planning.memory.processes import base_bytes
from t2g_ray.planning.parts import KvRoom
from t2g_ray.planning.shapes import BYTES, ModelShape

GRAPHS = GIB // 2
"""CUDA graphs of one engine; not measured."""
LOGIT_COPIES = 4
"""Of a row of logits in fp32 for each sequence: log-probs, sorting and drawing."""


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """One engine: sizes in bytes, those of a device where it has several."""

    config: GrpoConfig
    shape: ModelShape

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return BYTES[self.config.rollout.dtype]

    @property
    def workers(self) -> int:
        """Processes that share the weights."""
        return self.config.rollout.tensor_parallel

    @property
    def weights(self) -> int:
        """On a CPU the head is packed beside the embedding, also where they are tied."""
        packed = self.shape.head if self.config.device == "cpu" and self.shape.is_tied else 0
        return self.width * (self.shape.parameters + packed) // self.workers

    @property
    def sequence_tokens(self) -> int:
        """The longest prompt with the longest answer."""
        config = self.config
        longest = max(config.sampling.max_new_tokens, config.eval.max_new_tokens or 0)
        return config.prompt.max_tokens + longest

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token in the caches of all workers: heads that are fewer than
        those are held by several."""
        copies = max(1, self.workers * self.shape.head_size // max(1, self.shape.keys))
        return self.width * self.shape.key_numbers * copies

    @property
    def largest_pass(self) -> int:
        """Hidden states of its tokens, and logits of its sequences."""
        rollout = self.config.rollout
        tokens = max(rollout.pass_tokens, self.sequence_tokens)
        states = 4 * self.shape.hidden + 3 * self.shape.inner * self.shape.active // self.workers
        logits = 4 * LOGIT_COPIES * self.shape.vocab * rollout.max_sequences
        return self.width * tokens * states + logits

    @property
    def received(self) -> int:
        """A bucket on its way in: one tensor at least."""
        sync = self.config.sync
        if sync.transport == "ipc":
            return 0  # the learner's memory is read where it is
        largest = self.width * max(self.shape.head, self.shape.hidden * self.shape.inner)
        return max(int(sync.bucket_mib * MIB), largest)

    @property
    def fixed(self) -> int:
        """What of a card's share is no KV cache."""
        return self.weights + self.largest_pass + self._graphs

    @property
    def _graphs(self) -> int:
        return 0 if self.config.rollout.engine.get("enforce_eager") else GRAPHS

    @property
    def context(self) -> int:
        """What its process takes of a card before vLLM looks."""
        return base_bytes("engine on a card", self.config.device)

    @property
    def adapters(self) -> int:
        """Slots for the adapters of several versions."""
        lora = self.config.learner.lora
        if lora.sync != "adapter":
            return 0
        slots = self.config.max_staleness + 2
        return self.width * self.shape.adapters(lora.rank) * slots // self.workers

    def on_card(self, room: int) -> tuple[Footprint, KvRoom]:
        """An engine that may take `room` bytes of each of its cards; its cache holds one longest
        sequence at least, so that it needs more than `room` where that does not fit."""
        least = self.token_bytes * self.sequence_tokens // self.workers
        cache = max(least, room - self.fixed - self.adapters)
        context = {"context": self.context, "CUDA graphs": self._graphs}
        awake = {"engine weights": self.weights, "engine adapters": self.adapters}
        writes = {"largest pass": self.largest_pass, "KV cache": cache}
        host = {"process": base_bytes("engine", "cuda") * self.workers}
        is_away = self.config.colocate == "time"
        whole = Held(_some({**context, **awake, **writes}), host)
        incoming = {"buckets in flight": self.received}
        came = Held(
            _some({**context, **awake, **({} if is_away else writes), **incoming}),
            host,
        )
        asleep = Held(_some(context), host) if is_away else whole
        footprint: Footprint = {
            "starting": Held({}, host),
            "computing": asleep,
            "updating": asleep,
            "handing over": came,
            "writing": whole,
        }
        return footprint, self._room(cache * self.workers)

    def on_cpu(self) -> tuple[Footprint, KvRoom]:
        """An engine on CPUs, all of whose workers are on one machine."""
        cache = max(1, round(self.config.rollout.kv_cache_gib)) * GIB * self.workers
        held = {
            "process": base_bytes("engine", "cpu") * self.workers,
            "engine weights": self.weights * self.workers,
            "largest pass": self.largest_pass,
            "KV cache": cache,
            "loaded weights": self._loaded,
        }
        whole = Held({}, _some(held))
        return dict.fromkeys(MOMENTS, whole), self._room(cache)

    @property
    def _loaded(self) -> int:
        """Full matrices beside the packed ones, while a version is loaded."""
        return self.width * self.shape.parameters

    def _room(self, cache: int) -> KvRoom:
        return KvRoom(
            num_bytes=cache,
            sequence_bytes=self.token_bytes * self.sequence_tokens,
            sequence_tokens=self.sequence_tokens,
            max_sequences=self.config.rollout.max_sequences,
        )


def _some(parts: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in parts.items() if size}
