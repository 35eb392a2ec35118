"""Rollout actors that join and leave a live run, between two steps.

A new actor starts while the run goes on, gets the weights of the next sync, verified, and only
then prompts. An actor that leaves gets no more prompts, finishes those it has, and is ended.
Newcomers that do not start leave the run as it was, and are tried again while the request stands.
Invariant: no prompt is lost, and no token comes from an actor whose weights were not verified.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from actors.cluster.devices import PlacementError
from actors.cluster.handles import Handle, Ref, call_all
from actors.cluster.start import Cluster
from actors.cluster.waiting import is_over, open_of, results_of
from actors.stages.weights import RayWeights
from actors.workers.rollout import RolloutActor
from t2g_ray.grpo.dealing import Dealer
from t2g_ray.grpo.stages import LoopError
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import read_number, write_number

_log = logging.getLogger(__name__)

RETRY_S = 60.0
"""Seconds from a failed try to the next one."""


class RolloutScaler:
    """Implements `grpo.stages.Scaler`: follows the requested number."""

    def __init__(
        self,
        run: RunDir,
        *,
        cluster: Cluster,
        dealer: Dealer,
        weights: RayWeights,
        start: Callable[[int], Handle[RolloutActor]],
    ) -> None:
        self._run, self._cluster, self._fleet = run, cluster, cluster.fleet
        self._dealer, self._weights, self._start = dealer, weights, start
        self._followed = len(self._fleet)
        self._answers: list[Ref[str]] = []
        """For each newcomer a call that ends as soon as it answers."""
        self._deadline_s = 0.0
        self._retry_at_s = 0.0
        self._failure = ""
        """Why the last try failed."""
        self._told = (0, "")
        self._tell()

    def step(self) -> None:
        """Move towards the request."""
        # All actors of the fleet took part in the sync before this call.
        self._dealer.use_first(min(self._followed, len(self._fleet)))
        self._end_those_without_work()
        self._tell()
        if self._answers:
            self._add_newcomers()
            return
        wanted = read_number(self._run.scale_request)
        if wanted is None or wanted == self._followed:
            return
        if wanted < self._followed or time.monotonic() >= self._retry_at_s:
            self._follow(wanted)

    def _follow(self, wanted: int) -> None:
        newcomers = self._cluster.newcomers
        try:
            for number in range(len(self._fleet), wanted):
                newcomers.append(self._start(number))
        except PlacementError as error:
            # Boundary: a cluster without a device for it must not end the run.
            self._give_up(newcomers, error)
            return
        except ValueError:
            # The name still belongs to an actor that was just ended; the next step tries again.
            while newcomers:
                newcomers.pop().kill()
            return
        self._followed = wanted
        self._answers = call_all(newcomers, RolloutActor.node)
        self._deadline_s = time.monotonic() + self._cluster.deadlines.start.seconds

    def _give_up(self, newcomers: list[Handle[RolloutActor]], error: Exception) -> None:
        """End all newcomers, say why, and try again later."""
        while newcomers:
            newcomers.pop().kill()
        self._followed = len(self._fleet)
        self._retry_at_s = time.monotonic() + RETRY_S
        self._failure = str(error)
        self._tell()
        _log.warning("%s; tried again in %g s", self._failure, RETRY_S)

    def _end_those_without_work(self) -> None:
        while len(self._fleet) > self._followed and not self._dealer.num_open(len(self._fleet) - 1):
            self._weights.wait_for_loads()
            self._fleet.remove_last().kill()

    def _tell(self) -> None:
        if self._told != (len(self._fleet), self._failure):
            self._told = (len(self._fleet), self._failure)
            write_number(self._run.rollouts_json, *self._told)

    def _add_newcomers(self) -> None:
        """Let the started actors join once all of them answer."""
        is_late = not is_over(self._answers, 0)
        if is_late and time.monotonic() < self._deadline_s:
            return
        answers, self._answers = self._answers, []
        newcomers, self._cluster.newcomers = self._cluster.newcomers, []
        deadline = self._cluster.deadlines.start
        try:
            if is_late:
                raise LoopError(
                    f"{open_of(answers)} must answer within {deadline}, found no answer"
                )
            results_of(answers, "start of more rollout actors", deadline)
        except LoopError as error:
            # Boundary: a request to scale that fails must not end the run.
            self._give_up(newcomers, error)
            return
        self._failure = ""
        for newcomer in newcomers:
            self._fleet.add(newcomer)
