"""Rollout actors that join and leave a live run, between two steps.

A new actor starts while the run goes on, gets the weights of the next sync, verified, and only
then prompts. An actor that leaves gets no more prompts, finishes those it has, and is ended.
Invariant: no prompt is lost, and no token comes from an actor whose weights were not verified.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from actors.cluster.start import Cluster
from actors.stages.groups import RayGroups
from actors.stages.weights import RayWeights
from t2g_ray.grpo.stages import Ready, Watcher
from t2g_ray.prompts.ledger import Ledger
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import read_number, write_number

_log = logging.getLogger(__name__)


class RolloutScaler:
    """Implements `grpo.stages.Watcher` around another one: follows requests after each step.

    `cluster.rollouts` is the list that groups and weights work on, so that an actor appended here
    takes part in the next sync; `RayGroups.use_first` says how many of them get prompts.
    """

    def __init__(
        self,
        run: RunDir,
        watcher: Watcher,
        *,
        cluster: Cluster,
        groups: RayGroups,
        weights: RayWeights,
        start: Callable[[int], Any],
    ) -> None:
        self._run, self._watcher, self._cluster = run, watcher, cluster
        self._groups, self._weights, self._start = groups, weights, start
        self._followed = len(cluster.rollouts)
        self._answers: list[Any] = []
        """A reference for each newcomer, there as soon as it answers."""
        self._deadline_s = 0.0
        self._told = 0
        self._tell()

    def after_step(self, line: Mapping[str, float], taken: Sequence[Ready], ledger: Ledger) -> None:
        """Let the other watcher write the step down, then go one step towards the request."""
        self._watcher.after_step(line, taken, ledger)
        # All actors of the cluster took part in the sync before this call.
        self._groups.use_first(min(self._followed, len(self._cluster.rollouts)))
        self._end_those_without_work()
        self._tell()
        if self._answers:
            self._take_in_those_that_started()
            return
        wanted = read_number(self._run.scale_request)
        if wanted is not None and wanted != self._followed:
            self._follow(wanted)

    def needs_samplers(self, step: int) -> bool:
        """As the other watcher says."""
        return self._watcher.needs_samplers(step)

    def _follow(self, wanted: int) -> None:
        newcomers = self._cluster.newcomers
        try:
            for number in range(len(self._cluster.rollouts), wanted):
                newcomers.append(self._start(number))
        except ValueError:
            # The name of an actor that was ended a moment ago; the next step tries again.
            while newcomers:
                ray.kill(newcomers.pop())
            return
        self._followed = wanted
        self._answers = [actor.node.remote() for actor in newcomers]
        self._deadline_s = time.monotonic() + self._cluster.deadlines.start_s

    def _end_those_without_work(self) -> None:
        rollouts = self._cluster.rollouts
        while len(rollouts) > self._followed and not self._groups.num_open(len(rollouts) - 1):
            self._weights.wait_for_loads()
            ray.kill(rollouts.pop())

    def _tell(self) -> None:
        if self._told != len(self._cluster.rollouts):
            self._told = len(self._cluster.rollouts)
            write_number(self._run.rollouts_json, self._told)

    def _take_in_those_that_started(self) -> None:
        waiting = ray.wait(self._answers, num_returns=len(self._answers), timeout=0)[1]
        if waiting and time.monotonic() < self._deadline_s:
            return
        answers, self._answers = self._answers, []
        newcomers, self._cluster.newcomers = self._cluster.newcomers, []
        try:
            ray.get(answers, timeout=0)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
            # The boundary: what was asked for beside a run must not end it.
            _log.warning("%d more rollout actors did not start: %s", len(newcomers), error)
            for actor in newcomers:
                ray.kill(actor)
            return
        self._cluster.rollouts.extend(newcomers)
