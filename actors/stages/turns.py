"""Engines and learner ranks of a run that use their devices in turns, or at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, call_all
from actors.cluster.waiting import results_of
from actors.workers.learner import LearnerActor
from actors.workers.rollout import RolloutActor
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.sharing.turns import AtOnce, InTurns, TakingTurns


class RaySharers:
    """Implements `grpo.sharing.turns.Sharers` on Ray actors; all devices change hands together."""

    def __init__(
        self, config: GrpoConfig, learners: Sequence[Handle[LearnerActor]], fleet: Fleet
    ) -> None:
        self._learners, self._fleet = learners, fleet
        self._deadline = config.deadlines.sync

    def engines_sleep(self) -> None:
        """Discard weights and caches."""
        self._engines(RolloutActor.sleep, "sleep of the engines before training")

    def engines_take_weights(self) -> None:
        """Wake for weights."""
        self._engines(RolloutActor.take_weights, "wake of the engines for new weights")

    def engines_take_cache(self) -> None:
        """Wake for writing."""
        self._engines(RolloutActor.take_cache, "wake of the engines' caches")

    def learners_leave(self) -> None:
        """Park what the optimisers hold."""
        self._ranks(LearnerActor.leave, "move of optimiser states to the host")

    def learners_come_back(self) -> None:
        """Bring it back."""
        self._ranks(LearnerActor.come_back, "move of optimiser states to the device")

    def learners_drop_copies(self) -> None:
        """Give up shared weights."""
        self._ranks(LearnerActor.drop_copy, "end of the shared copies of the weights")

    def _engines(self, method: Callable[[RolloutActor], None], phase: str) -> None:
        results_of(call_all(self._fleet, method), phase, self._deadline)

    def _ranks(self, method: Callable[[LearnerActor], None], phase: str) -> None:
        results_of(call_all(self._learners, method), phase, self._deadline)


def turns_of(
    config: GrpoConfig, learners: Sequence[Handle[LearnerActor]], fleet: Fleet
) -> TakingTurns:
    """What the configuration says. In turns, the first turn is the learner's."""
    if config.colocate != "time":
        return AtOnce()
    return InTurns(RaySharers(config, learners, fleet))
