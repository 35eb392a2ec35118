"""The learner ranks as one stage of the loop: a batch in, the report of its step out."""

from __future__ import annotations

from collections.abc import Sequence

from actors.cluster.handles import Handle
from actors.cluster.waiting import Meanwhile, results_of
from actors.stages.scoring import scored_of
from actors.workers.learner import LearnerActor
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.sharing.turns import TakingTurns
from t2g_ray.grpo.stages import TrainGroup
from t2g_ray.learner.batching import balance
from t2g_ray.types import TrainReport


class RayTrainer:
    """Implements `grpo.stages.Trainer`: shares a batch over the learner ranks by tokens."""

    def __init__(
        self,
        config: GrpoConfig,
        learners: Sequence[Handle[LearnerActor]],
        meanwhile: Meanwhile,
        turns: TakingTurns,
    ) -> None:
        self._deadline, self._turns = config.deadlines.train, turns
        self._learners, self._meanwhile = learners, meanwhile

    def step(self, groups: Sequence[TrainGroup], *, divisor: float) -> TrainReport:
        """One optimiser step of all ranks; every rank reports the same numbers."""
        self._turns.to_learner()
        calls = []
        shares = balance([group.num_tokens for group in groups], len(self._learners))
        for learner, share in zip(self._learners, shares, strict=True):
            mine = [groups[i] for i in share]
            handles = [scored_of(group).reference for group in mine]
            advantages = [group.advantages for group in mine]
            calls.append(learner.call(LearnerActor.step, handles, advantages, divisor))
        return results_of(calls, "optimiser step", self._deadline, self._meanwhile)[0]
