"""An engine that gives up its device between steps, for a learner that has it in turns.

    awake --sleep--> asleep --take_weights--> empty --load--> loaded --take_cache--> awake

Invariant: no group is begun or continued, and nothing is verified, but by an engine that is awake;
an engine that slept is awake only after a load, because sleeping discards its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.types import Group, Prompt
from t2g_ray.vllm_private.sleep import fall_asleep, take_cache, take_weights
from t2g_ray.weights.channels import SharedBucket
from t2g_ray.weights.manifest import Bucket, Manifest


class Wakefulness(Enum):
    """What an engine has on its device."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    EMPTY = "awake for weights, which did not come yet"
    LOADED = "awake for weights, without a cache"


class EngineOutOfTurn(RuntimeError):
    """Work that the engine cannot do as it is: says what it needs and what it has."""


class EngineInTurns(GenerationEngine):
    """A GenerationEngine with a device that it leaves; it starts awake, with random weights."""

    def __init__(self, spec: EngineSpec) -> None:
        self.wakefulness = Wakefulness.AWAKE
        super().__init__(spec)

    def sleep(self) -> None:
        """Give up the memory of weights and cache. Raises EngineOutOfTurn while groups are open."""
        self._check("sleep", Wakefulness.AWAKE)
        if self.is_busy:
            raise EngineOutOfTurn(
                "an engine must have ended all its groups before it sleeps, found "
                f"{len(self.open_prompts)} open: {', '.join(self.open_prompts[:4])}"
            )
        fall_asleep(self._engine)
        self.wakefulness = Wakefulness.ASLEEP

    def take_weights(self) -> None:
        """Take memory for weights, which a load must come to."""
        self._check("waking for weights", Wakefulness.ASLEEP)
        take_weights(self._engine)
        self.wakefulness = Wakefulness.EMPTY

    def take_cache(self) -> None:
        """Take memory for the KV cache: the engine may write."""
        self._check("waking for its cache", Wakefulness.LOADED)
        take_cache(self._engine)
        self.wakefulness = Wakefulness.AWAKE

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        """Start a group; raises EngineOutOfTurn too."""
        self._check(f"prompt {prompt.key}", Wakefulness.AWAKE)
        super().add(prompt, sampling)

    def step(self) -> list[Group]:
        """One pass of the model; raises EngineOutOfTurn too."""
        self._check("a pass of the model", Wakefulness.AWAKE)
        return super().step()

    def load(
        self, manifest: Manifest, buckets: Sequence[Bucket | SharedBucket], *, verify: bool
    ) -> None:
        """Fill the weights; raises EngineOutOfTurn too."""
        self._check_memory()
        super().load(manifest, buckets, verify=verify)
        self._note_loaded()

    def receive(self, version: int, *, verify: bool) -> None:
        """Fill the weights from the link; raises EngineOutOfTurn too."""
        self._check_memory()
        super().receive(version, verify=verify)
        self._note_loaded()

    def verify(self, manifest: Manifest) -> None:
        """Check all layers; raises EngineOutOfTurn too."""
        self._check("a proof of the weights", Wakefulness.AWAKE, Wakefulness.LOADED)
        super().verify(manifest)

    def _check_memory(self) -> None:
        self._check("a load of weights", Wakefulness.AWAKE, Wakefulness.EMPTY, Wakefulness.LOADED)

    def _note_loaded(self) -> None:
        if self.wakefulness is Wakefulness.EMPTY:
            self.wakefulness = Wakefulness.LOADED

    def _check(self, work: str, *allowed: Wakefulness) -> None:
        if self.wakefulness not in allowed:
            wanted = " or ".join(one.value for one in allowed)
            raise EngineOutOfTurn(
                f"{work} needs an engine that is {wanted}, found it {self.wakefulness.value}: the "
                "learner has its turn, or weights are being handed over"
            )


def of(engine: GenerationEngine) -> EngineInTurns:
    """The engine as one that leaves its device. Raises TypeError for one that does not."""
    if not isinstance(engine, EngineInTurns):
        raise TypeError(
            "an engine must be started to take turns with a learner (colocate=time), found a "
            f"{type(engine).__name__}"
        )
    return engine
