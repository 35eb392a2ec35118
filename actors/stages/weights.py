"""Learner ranks -> samplers: which version is where, and when it is proven.

How the bytes travel is the transport's; none of them passes through the driver.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from actors.stages.transports import sync_results, transport_of
from t2g_ray.config import GrpoConfig
from t2g_ray.weights.manifest import MIB


class RayWeights:
    """Implements `t2g_ray.grpo.stages.Weights` on Ray actors."""

    def __init__(
        self, config: GrpoConfig, *, learners: Sequence[Any], rollouts: Sequence[Any]
    ) -> None:
        self._config = config
        self._rollouts = rollouts
        self._transport = transport_of(config, list(learners), rollouts)
        self._num_served = 0
        self._loads: Mapping[str, Any] = {}
        self._version = -1
        self._num_published = 0

    def publish(self, version: int) -> dict[str, float]:
        """Send the learner's weights as `version`.

        With max_staleness 0 nothing else can go on, so the loads are awaited here. Otherwise the
        learner goes on at once and the loads are awaited before the next publish. Raises
        WeightSyncError that names phase, version and the tensor that differs, else LoopError.
        """
        started = time.perf_counter()
        self.wait_for_loads()
        # The first two: one fills engines that began with random weights, one replaces weights.
        verify = self._num_published < 2 or version % self._config.sync.verify_every == 0
        # So is a rollout actor that joined since the last one.
        verify = verify or len(self._rollouts) > self._num_served
        self._num_served = len(self._rollouts)
        sent = self._transport.send(version, verify=verify)
        self._loads, self._version = sent.loads, version
        self._num_published += 1
        if self._config.max_staleness == 0:
            self.wait_for_loads()
        return {
            "time/sync_s": time.perf_counter() - started,
            "sync/mib": sent.manifest.num_bytes / MIB,
            "sync/buckets": sent.manifest.num_buckets,
            "sync/verified": float(verify),
        }

    def wait_for_loads(self) -> None:
        """Wait until the version sent last is applied everywhere."""
        loads, self._loads = self._loads, {}
        if loads:
            sync_results(loads, f"load of version {self._version}", self._config)
