"""How a version travels from the learner ranks to the rollout actors, by `sync.transport`.

    store       learner/0 puts buckets into the object store; a node fetches one copy
    broadcast   learner/0 sends buckets to all engines at once; nothing passes through a store
    ipc         engines read the memory of the learner rank on their device

Whichever it is, one message goes to each learner rank and one to each rollout actor, and the
driver sees references and the manifest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, Ref, call_all, put
from actors.cluster.waiting import AnyRef, Meanwhile, ended, is_over, result_of, results_of
from actors.workers.learner import BucketRef, LearnerActor
from actors.workers.rollout import RolloutActor
from t2g_ray.config import Deadline, GrpoConfig
from t2g_ray.grpo.stages import LoopError
from t2g_ray.weights.channels import Rendezvous
from t2g_ray.weights.manifest import Manifest, WeightSyncError

_WATCH_S = 1.0
"""Seconds between two looks at the receivers while the learner sends."""

_FEW = 16
"""Rollout actors that are told of a version by value."""

Result = TypeVar("Result")
Learners = Sequence[Handle[LearnerActor]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A version on its way."""

    manifest: Manifest
    loads: list[Ref[float]]
    """For each rollout actor, the call that ends when its engine computes with the version."""


class Transport(Protocol):
    """A way for versions to travel. The fleet may grow and shrink between two calls."""

    def send(self, version: int, *, is_whole: bool, verify: bool) -> Sent:
        """Gather the weights and send them; raises WeightSyncError or LoopError by phase.

        `is_whole`: the frozen weights too, where versions are made of adapters.
        """


def sync_results(
    calls: Sequence[Ref[Result]],
    phase: str,
    deadline: Deadline,
    meanwhile: Meanwhile | None = None,
) -> list[Result]:
    """`results_of`; a WeightSyncError of an actor is raised as such."""
    try:
        return results_of(calls, phase, deadline, meanwhile)
    except LoopError as error:
        cause = getattr(error.__cause__, "cause", None)
        if isinstance(cause, WeightSyncError):
            # The actor's own words, without the traceback that Ray puts around them.
            raise WeightSyncError(f"{phase}: {cause}") from error
        raise


def transport_of(config: GrpoConfig, learners: Learners, fleet: Fleet) -> Transport:
    """The transport that the configuration names."""
    kinds: Mapping[str, type[_Store] | type[_Broadcast] | type[_Ipc]] = {
        "store": _Store,
        "broadcast": _Broadcast,
        "ipc": _Ipc,
    }
    return kinds[config.sync.transport](config, learners, fleet)


def tell_all(
    fleet: Sequence[Handle[RolloutActor]],
    manifest: Manifest,
    buckets: Sequence[BucketRef],
    *,
    verify: bool,
) -> list[Ref[float]]:
    """Begin the load of a version on every actor.

    The message names all tensors and buckets. For many actors it is an object of the store itself:
    packed once, and not once for each of them.
    """
    load = RolloutActor.load
    if len(fleet) <= _FEW:
        return call_all(fleet, load, manifest, buckets, verify)
    return call_all(fleet, load, put(manifest).as_argument(), put(buckets).as_argument(), verify)


class _BetweenActors:
    """What all transports hold."""

    def __init__(self, config: GrpoConfig, learners: Learners, fleet: Fleet) -> None:
        self._learners, self._fleet = learners, fleet
        self._bucket_mib = config.sync.bucket_mib
        self._deadline = config.deadlines.sync
        self._workers = config.rollout.tensor_parallel
        """Workers of one rollout actor's engine."""
        self._known: list[Handle[RolloutActor]] = []
        """The rollout actors that this was last prepared for."""

    def _is_new(self) -> bool:
        return self._known != list(self._fleet)


class _Store(_BetweenActors):
    def send(self, version: int, *, is_whole: bool, verify: bool) -> Sent:
        calls = call_all(self._learners, LearnerActor.publish, version, self._bucket_mib, is_whole)
        published = sync_results(calls, f"gather of version {version}", self._deadline)[0]
        assert published is not None  # rank 0's
        manifest, buckets = published
        return Sent(manifest, tell_all(list(self._fleet), manifest, buckets, verify=verify))


class _Broadcast(_BetweenActors):
    def send(self, version: int, *, is_whole: bool, verify: bool) -> Sent:
        if self._is_new():
            self._meet()
        loads = call_all(self._fleet, RolloutActor.receive, version, verify)
        calls = call_all(
            self._learners, LearnerActor.broadcast, version, self._bucket_mib, is_whole, verify
        )
        phase = f"broadcast of version {version}"

        def watch(sending: Sequence[AnyRef], seconds: float) -> None:
            end = time.monotonic() + seconds
            while not is_over(sending, _WATCH_S) and time.monotonic() < end:
                self._raise_failure(loads, phase)

        try:
            manifest = sync_results(calls, phase, self._deadline, watch)[0]
        except LoopError:
            # A sender fails when a receiver is gone: the receiver's error is the reason.
            time.sleep(_WATCH_S)
            self._raise_failure(loads, phase)
            raise
        assert manifest is not None  # rank 0's
        return Sent(manifest, loads)

    def _raise_failure(self, loads: Sequence[Ref[float]], phase: str) -> None:
        sync_results(ended(loads, 0), phase, self._deadline)

    def _meet(self) -> None:
        phase = "meeting of learner and samplers"
        sender = self._learners[0]
        address, port = result_of(sender.call(LearnerActor.address), phase, self._deadline)
        rendezvous = Rendezvous(
            address=address,
            port=port,
            size=1 + self._workers * len(self._fleet),
            timeout_s=self._deadline.seconds,
        )
        calls = [sender.call(LearnerActor.connect, rendezvous)]
        for number, rollout in enumerate(self._fleet):
            first_rank = 1 + self._workers * number
            calls.append(rollout.call(RolloutActor.connect, rendezvous, first_rank))
        sync_results(calls, phase, self._deadline)
        self._known = list(self._fleet)


class _Ipc(_BetweenActors):
    _sources: Sequence[int] = ()
    """Number of a rollout actor -> the learner rank on its device."""

    def send(self, version: int, *, is_whole: bool, verify: bool) -> Sent:
        if self._is_new():
            self._pair()
        calls = [
            # A copy on another device would be opened by nobody.
            learner.call(
                LearnerActor.share,
                version,
                self._bucket_mib,
                is_whole,
                verify,
                rank in self._sources,
            )
            for rank, learner in enumerate(self._learners)
        ]
        shared = sync_results(calls, f"gather of version {version}", self._deadline)
        offers = [offer for offer in map(shared.__getitem__, self._sources) if offer is not None]
        loads = [
            rollout.call(RolloutActor.load, manifest, buckets, verify)
            for rollout, (manifest, buckets) in zip(self._fleet, offers, strict=True)
        ]
        return Sent(offers[0][0], loads)

    def _pair(self) -> None:
        phase = "question for the devices"
        asked = call_all(self._fleet, RolloutActor.device_key)
        keys = sync_results(
            call_all(self._learners, LearnerActor.device_key), phase, self._deadline
        )
        found = sync_results(asked, phase, self._deadline)
        for rollout, key in zip(self._fleet, found, strict=True):
            if key not in keys:
                raise LoopError(
                    f"sync.transport=ipc needs a learner rank on the device of every rollout "
                    f"actor, found none on that of {rollout.name} ({key}) among {keys}; place "
                    "both on one GPU by shares, as rollout.gpus=0.5 learner.gpus=0.5, or choose "
                    "sync.transport=broadcast"
                )
        self._sources = [keys.index(key) for key in found]
        self._known = list(self._fleet)
