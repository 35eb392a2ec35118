"""Learner ranks -> samplers, through the object store and never through the driver.

Rank 0 puts each bucket once; every node fetches one copy; the driver sees references and the
manifest. One message goes to each learner rank and one to each rollout actor, however many
tensors there are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from actors.waiting import results_of
from t2g_ray.config import GrpoConfig
from t2g_ray.loop import LoopError
from t2g_ray.weights import MIB, WeightSyncError


class RayWeights:
    """Implements `t2g_ray.loop.Weights` on Ray actors."""

    def __init__(
        self, config: GrpoConfig, *, learners: Sequence[Any], rollouts: Sequence[Any]
    ) -> None:
        self._config = config
        self._learners = list(learners)
        self._rollouts = rollouts
        self._num_served = 0
        self._loads: dict[str, Any] = {}
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
        manifest, buckets = self._gather(version)
        self._loads = {
            f"rollout/{number}": rollout.load.remote(manifest, buckets, verify)
            for number, rollout in enumerate(self._rollouts)
        }
        self._version = version
        self._num_published += 1
        if self._config.max_staleness == 0:
            self.wait_for_loads()
        return {
            "time/sync_s": time.perf_counter() - started,
            "sync/mib": manifest.num_bytes / MIB,
            "sync/buckets": manifest.num_buckets,
            "sync/verified": float(verify),
        }

    def _gather(self, version: int) -> tuple[Any, Any]:
        bucket_mib = self._config.sync.bucket_mib
        calls = {
            f"learner/{rank}": learner.publish.remote(version, bucket_mib)
            for rank, learner in enumerate(self._learners)
        }
        results = self._results(calls, f"gather of version {version}")
        return results[0]  # type: ignore[no-any-return]

    def wait_for_loads(self) -> None:
        """Wait until the version sent last is applied everywhere."""
        loads, self._loads = self._loads, {}
        if loads:
            self._results(loads, f"load of version {self._version}")

    def _results(self, calls: dict[str, Any], phase: str) -> list[Any]:
        try:
            return results_of(calls, phase, self._config.deadlines, "sync_s")
        except LoopError as error:
            cause = getattr(error.__cause__, "cause", None)
            if isinstance(cause, WeightSyncError):
                # The actor's own words, without the traceback that Ray puts around them.
                raise WeightSyncError(f"{phase}: {cause}") from error
            raise
