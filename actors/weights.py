"""Learner ranks -> samplers, through the object store and never through the driver.

Rank 0 puts each bucket once; every node fetches one copy; the driver sees references and the
manifest. One message goes to each learner rank and one to each rollout actor, however many
tensors there are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import ray

from t2g_ray.config import GrpoConfig
from t2g_ray.progress import announced_wait
from t2g_ray.weights import MIB, WeightSyncError


class RayWeights:
    """Implements `t2g_ray.loop.Weights` on Ray actors."""

    def __init__(
        self, config: GrpoConfig, *, learners: Sequence[Any], rollouts: Sequence[Any]
    ) -> None:
        self._config = config
        self._learners = list(learners)
        self._rollouts = list(rollouts)
        self._loads: list[Any] = []
        self._num_published = 0

    def publish(self, version: int) -> dict[str, float]:
        """Send the learner's weights as `version`.

        With max_staleness 0 nothing else can go on, so the loads are awaited here. Otherwise the
        learner goes on at once and the loads are awaited before the next publish. Raises
        WeightSyncError that names phase, version and, where one differs, the tensor.
        """
        started = time.perf_counter()
        self.wait_for_loads()
        # The first two: one fills engines that began with random weights, one replaces weights.
        verify = self._num_published < 2 or version % self._config.sync.verify_every == 0
        manifest, buckets = self._gather(version)
        self._loads = [rollout.load.remote(manifest, buckets, verify) for rollout in self._rollouts]
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
        calls = [learner.publish.remote(version, bucket_mib) for learner in self._learners]
        results = self._await(calls, f"gather of version {version} on the learner ranks")
        return results[0]  # type: ignore[no-any-return]

    def wait_for_loads(self) -> None:
        """Wait until the version sent last is applied everywhere."""
        loads, self._loads = self._loads, []
        self._await(loads, "load of new weights on the rollout actors")

    def _await(self, calls: list[Any], what: str) -> list[Any]:
        timeout_s = self._config.deadlines.sync_s
        try:
            with announced_wait(lambda: what):
                results: list[Any] = ray.get(calls, timeout=timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            open_calls = [i for i, c in enumerate(calls) if not ray.wait([c], timeout=0)[0]]
            raise WeightSyncError(
                f"the {what} must end within deadlines.sync_s={timeout_s:g} s, still waiting for "
                f"number {open_calls}"
            ) from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, WeightSyncError):
                raise WeightSyncError(str(error.cause)) from error
            raise
        return results
