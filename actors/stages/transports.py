"""The ways of a version from the learner ranks to the rollout actors, chosen by `sync.transport`.

    store       learner/0 puts buckets into the object store; a node fetches one copy
    broadcast   learner/0 sends buckets to all engines at once; nothing passes through a store
    ipc         engines read the memory of the learner rank on their device

Whichever it is, one message goes to each learner rank and one to each rollout actor, and the
driver sees references and the manifest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from actors.cluster.waiting import Meanwhile, results_of
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.stages import LoopError
from t2g_ray.weights.manifest import Manifest, WeightSyncError
from t2g_ray.weights.transport import Meeting

_WATCH_S = 1.0
"""Between two looks at the receivers while the learner sends."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A version on its way."""

    manifest: Manifest
    loads: Mapping[str, Any]
    """Actor -> the call that ends when the actor's engine computes with the version."""


class Transport(Protocol):
    """One way. `rollouts` may grow and shrink between two calls."""

    def send(self, version: int, *, verify: bool) -> Sent:
        """Gather the weights and send them; raises WeightSyncError or LoopError by phase."""


def sync_results(
    calls: Mapping[str, Any], phase: str, config: GrpoConfig, meanwhile: Meanwhile | None = None
) -> list[Any]:
    """`results_of` under the deadline of a sync; raises WeightSyncError for an actor's own."""
    try:
        return results_of(calls, phase, config.deadlines, "sync_s", meanwhile)
    except LoopError as error:
        cause = getattr(error.__cause__, "cause", None)
        if isinstance(cause, WeightSyncError):
            # The actor's own words, without the traceback that Ray puts around them.
            raise WeightSyncError(f"{phase}: {cause}") from error
        raise


def transport_of(config: GrpoConfig, learners: Sequence[Any], rollouts: Sequence[Any]) -> Transport:
    """The way that the configuration names."""
    kinds: Mapping[str, Callable[..., Transport]] = {
        "store": _Store,
        "broadcast": _Broadcast,
        "ipc": _Ipc,
    }
    return kinds[config.sync.transport](config, learners, rollouts)


class _Way:
    def __init__(
        self, config: GrpoConfig, learners: Sequence[Any], rollouts: Sequence[Any]
    ) -> None:
        self._config, self._learners, self._rollouts = config, learners, rollouts
        self._known: list[Any] = []
        """The rollout actors that the way was last prepared for."""

    def _is_new(self) -> bool:
        return self._known != list(self._rollouts)

    def _on_learners(self, method: str, *arguments: Any) -> dict[str, Any]:
        return _calls("learner", self._learners, method, arguments)

    def _on_rollouts(self, method: str, *arguments: Any) -> dict[str, Any]:
        return _calls("rollout", self._rollouts, method, arguments)


def _calls(
    role: str, actors: Sequence[Any], method: str, arguments: tuple[Any, ...]
) -> dict[str, Any]:
    return {
        f"{role}/{number}": getattr(actor, method).remote(*arguments)
        for number, actor in enumerate(actors)
    }


class _Store(_Way):
    def send(self, version: int, *, verify: bool) -> Sent:
        calls = self._on_learners("publish", version, self._config.sync.bucket_mib)
        phase = f"gather of version {version}"
        manifest, buckets = sync_results(calls, phase, self._config)[0]
        return Sent(manifest, self._on_rollouts("load", manifest, buckets, verify))


class _Broadcast(_Way):
    def send(self, version: int, *, verify: bool) -> Sent:
        if self._is_new():
            self._meet()
        loads = self._on_rollouts("receive", version, verify)
        bucket_mib = self._config.sync.bucket_mib
        calls = self._on_learners("broadcast", version, bucket_mib, verify)
        phase = f"broadcast of version {version}"

        def watch(references: Sequence[Any], seconds: float) -> None:
            end = time.monotonic() + seconds
            while references and time.monotonic() < end:
                _, references = ray.wait(
                    list(references), num_returns=len(references), timeout=_WATCH_S
                )
                self._raise_failure(loads, phase)

        try:
            manifest = sync_results(calls, phase, self._config, watch)[0]
        except LoopError:
            # A sender fails for a receiver that is gone: what that one says is the reason.
            time.sleep(_WATCH_S)
            self._raise_failure(loads, phase)
            raise
        return Sent(manifest, loads)

    def _raise_failure(self, loads: Mapping[str, Any], phase: str) -> None:
        ended = ray.wait(list(loads.values()), num_returns=len(loads), timeout=0)[0]
        failed = {actor: call for actor, call in loads.items() if call in ended}
        sync_results(failed, phase, self._config)

    def _meet(self) -> None:
        phase = "meeting of learner and samplers"
        first = {"learner/0": self._learners[0].address.remote()}
        address, port = sync_results(first, phase, self._config)[0]
        workers = self._config.rollout.tensor_parallel
        meeting = Meeting(
            address=address,
            port=port,
            size=1 + workers * len(self._rollouts),
            timeout_s=self._config.deadlines.sync_s,
        )
        calls = {"learner/0": self._learners[0].connect.remote(meeting)}
        for number, rollout in enumerate(self._rollouts):
            calls[f"rollout/{number}"] = rollout.connect.remote(meeting, 1 + workers * number)
        sync_results(calls, phase, self._config)
        self._known = list(self._rollouts)


class _Ipc(_Way):
    _sources: Sequence[int] = ()
    """Number of a rollout actor -> the learner rank on its device."""

    def send(self, version: int, *, verify: bool) -> Sent:
        if self._is_new():
            self._pair()
        calls = self._on_learners("share", version, self._config.sync.bucket_mib, verify)
        shared = sync_results(calls, f"gather of version {version}", self._config)
        loads = {
            f"rollout/{number}": rollout.load.remote(*shared[self._sources[number]], verify)
            for number, rollout in enumerate(self._rollouts)
        }
        return Sent(shared[0][0], loads)

    def _pair(self) -> None:
        rollouts = self._on_rollouts("place")
        phase = "question for the devices"
        places = sync_results(self._on_learners("place"), phase, self._config)
        found = sync_results(rollouts, phase, self._config)
        for actor, place in zip(rollouts, found, strict=True):
            if place not in places:
                raise LoopError(
                    f"sync.transport=ipc needs a learner rank on the device of every rollout "
                    f"actor, found none on that of {actor} ({place}) among {places}; place both "
                    "on one GPU by shares, as rollout.gpus=0.5 learner.gpus=0.5, or choose "
                    "sync.transport=broadcast"
                )
        self._sources = [places.index(place) for place in found]
        self._known = list(self._rollouts)
