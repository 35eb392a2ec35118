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

from actors.cluster import Cluster
from actors.groups import RayGroups
from actors.weights import RayWeights
from t2g_ray.data.ledger import Ledger
from t2g_ray.loop import Ready, Watcher
from t2g_ray.rundir import RunDir
from t2g_ray.scaling import read_number, write_number

_log = logging.getLogger(__name__)


class RolloutScaler:
    """Implements `t2g_ray.loop.Watcher` around another one: follows requests after each step.

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
        self._started: dict[Any, Any] = {}
        """Newcomer -> reference that is there as soon as it answers."""
        self._deadline_s = 0.0
        write_number(run.rollouts_json, self._followed)

    def after_step(self, line: Mapping[str, float], taken: Sequence[Ready], ledger: Ledger) -> None:
        """Let the other watcher write the step down, then go one step towards the request."""
        self._watcher.after_step(line, taken, ledger)
        # All actors of the cluster took part in the sync before this call.
        self._groups.use_first(min(self._followed, len(self._cluster.rollouts)))
        self._end_those_without_work()
        if self._started:
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
        self._started = {actor: actor.node.remote() for actor in newcomers}
        self._deadline_s = time.monotonic() + self._cluster.deadlines.start_s

    def _end_those_without_work(self) -> None:
        rollouts = self._cluster.rollouts
        while len(rollouts) > self._followed and not self._groups.num_open(len(rollouts) - 1):
            self._weights.wait_for_loads()
            ray.kill(rollouts.pop())
        if read_number(self._run.rollouts_json) != len(rollouts):
            write_number(self._run.rollouts_json, len(rollouts))

    def _take_in_those_that_started(self) -> None:
        calls = list(self._started.values())
        waiting = ray.wait(calls, num_returns=len(calls), timeout=0)[1]
        if waiting and time.monotonic() < self._deadline_s:
            return
        newcomers, self._started, self._cluster.newcomers = list(self._started), {}, []
        try:
            ray.get(calls, timeout=0)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
            # The boundary: what was asked for beside a run must not end it.
            _log.warning("%d more rollout actors did not start: %s", len(newcomers), error)
            for actor in newcomers:
                ray.kill(actor)
            return
        self._cluster.rollouts.extend(newcomers)
