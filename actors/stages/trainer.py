"""The learner ranks as one stage of the loop: a batch in, the report of its step out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.cluster.start import Cluster
from actors.cluster.waiting import Meanwhile, results_of
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.stages import TrainGroup
from t2g_ray.learner.batching import balance


class RayTrainer:
    """Implements `t2g_ray.grpo.stages.Trainer`: shares a batch over the learner ranks by tokens."""

    def __init__(self, config: GrpoConfig, cluster: Cluster, meanwhile: Meanwhile) -> None:
        self._config, self._cluster, self._meanwhile = config, cluster, meanwhile

    def step(self, groups: Sequence[TrainGroup], *, divisor: float) -> Mapping[str, float]:
        """One optimiser step of all ranks; every rank reports the same numbers."""
        learners = self._cluster.learners
        calls: dict[str, Any] = {}
        for rank, share in enumerate(balance([g.num_tokens for g in groups], len(learners))):
            mine = [groups[i] for i in share]
            handles, advantages = [g.handle for g in mine], [g.advantages for g in mine]
            call = learners[rank].step.remote(handles, advantages, divisor)
            calls[f"learner/{rank}"] = call
        deadlines = self._config.deadlines
        reports = results_of(calls, "optimiser step", deadlines, "train_s", self._meanwhile)
        report: Mapping[str, float] = reports[0]
        return report
