"""Learner ranks -> samplers: which version is where, and when it is verified.

How the bytes travel is the transport's; none of them passes through the driver.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, Ref
from actors.stages.transports import sync_results, transport_of
from actors.workers.learner import LearnerActor
from actors.workers.rollout import RolloutActor
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.sharing.turns import AtOnce, TakingTurns
from t2g_ray.types import SyncReport
from t2g_ray.weights.manifest import Manifest


class RayWeights:
    """Implements `grpo.stages.Weights` on Ray actors."""

    def __init__(
        self,
        config: GrpoConfig,
        *,
        learners: Sequence[Handle[LearnerActor]],
        fleet: Fleet,
        turns: TakingTurns | None = None,
    ) -> None:
        self._config = config
        self._turns = turns or AtOnce()
        self._fleet = fleet
        self._transport = transport_of(config, learners, fleet)
        self._served: list[Handle[RolloutActor]] = []
        """The actors that the last version went to."""
        self._loads: list[Ref[float]] = []
        self._version = -1
        self._num_published = 0

    def publish(self, version: int) -> SyncReport:
        """Send the learner's weights as `version`.

        With max_staleness 0 nothing can go on without them, so the loads are awaited here.
        Otherwise the learner goes on at once and the loads are awaited before the next publish.
        Raises WeightSyncError that names phase, version and the tensor that differs, else
        LoopError.
        """
        started = time.perf_counter()
        self.wait_for_loads()
        # The first two: the first fills engines that began with random weights, the second
        # replaces.
        is_due = self._num_published < 2 or version % self._config.sync.verify_every == 0
        # Also verified: a sync that a newly joined rollout actor takes part in.
        is_met_first = any(one not in self._served for one in self._fleet)
        is_verified = is_due or is_met_first
        self._served = list(self._fleet)
        # An engine that sleeps keeps none of its weights.
        is_whole = is_met_first or self._config.colocate == "time"
        manifest = self._turns.hand_over(lambda: self._send(version, is_whole, is_verified))
        self._num_published += 1
        return SyncReport(
            seconds=time.perf_counter() - started,
            num_bytes=manifest.num_bytes,
            num_buckets=manifest.num_buckets,
            is_verified=is_verified,
        )

    def _send(self, version: int, is_whole: bool, is_verified: bool) -> Manifest:
        sent = self._transport.send(version, is_whole=is_whole, verify=is_verified)
        self._loads, self._version = sent.loads, version
        if self._config.max_staleness == 0:
            self.wait_for_loads()
        return sent.manifest

    def wait_for_loads(self) -> None:
        """Wait until the version sent last is applied everywhere."""
        loads, self._loads = self._loads, []
        if loads:
            sync_results(loads, f"load of version {self._version}", self._config.deadlines.sync)
