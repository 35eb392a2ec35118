"""Rollout actors that join and leave a live run, between two steps.

A new actor starts while the run goes on, gets the weights of the next sync, verified, and only
then prompts. An actor that leaves gets no more prompts, finishes those it has, and is ended.
Newcomers that do not start leave the run as it was, and are tried again while the request stands.
How many there should be is a number that was asked for, or follows from the figures of the last
steps, which the driver has anyway. Invariant: no prompt is lost, and no token comes from an actor
whose weights were not verified.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from actors.cluster.devices import PlacementError
from actors.cluster.handles import Handle, Ref, call_all
from actors.cluster.start import Cluster, start_newcomer
from actors.cluster.waiting import is_over, open_of, results_of
from actors.stages.weights import RayWeights
from actors.workers.rollout import RolloutActor
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.dealing import Dealer
from t2g_ray.grpo.scaling.auto import AutoScale, Decision
from t2g_ray.grpo.stages import LoopError
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import Answer, Bounds, read_request, write_answer
from t2g_ray.run.trace import Span, Tracer

_log = logging.getLogger(__name__)

RETRY_S = 60.0
"""Seconds from a failed try to the next one."""


def scaler_of(
    config: GrpoConfig,
    run: RunDir,
    *,
    model: str,
    cluster: Cluster,
    dealer: Dealer,
    weights: RayWeights,
    last_line: Callable[[], Mapping[str, float]],
    tracer: Tracer,
) -> RolloutScaler | None:
    """What follows the requests of a run; None, and an answer to all of them, where the number is
    fixed."""
    if config.colocate == "time":
        reason = (
            "colocate=time, where each engine has the device of a learner rank; stop the run and "
            "resume it with other rollout.actors and learner.ranks, or colocate=off"
        )
        write_answer(run.rollouts_json, Answer(rollouts=len(cluster.fleet), fixed=reason))
        return None
    return RolloutScaler(
        run,
        cluster=cluster,
        dealer=dealer,
        weights=weights,
        start=partial(start_newcomer, cluster, config, model),
        last_line=last_line,
        tracer=tracer,
        max_staleness=config.max_staleness,
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """A decision that is being carried out."""

    number: int
    """Rollout actors before it."""
    decision: Decision
    step: int
    since_s: float

    @property
    def name(self) -> str:
        return f"{self.number} -> {self.decision.wanted} rollout actors"

    @property
    def words(self) -> str:
        return f"step {self.step}: {self.name}: {self.decision.reason}"

    def span(self, failure: str) -> Span:
        """From the decision until now."""
        return Span(
            name=self.name,
            start_s=self.since_s,
            end_s=max(time.time(), self.since_s),
            actor="scaling",
            step=self.step,
            args={"reason": self.decision.reason, **({"failure": failure} if failure else {})},
        )


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
        last_line: Callable[[], Mapping[str, float]],
        tracer: Tracer,
        max_staleness: int,
    ) -> None:
        """`last_line` is that of metrics.jsonl."""
        self._run, self._cluster, self._fleet = run, cluster, cluster.fleet
        self._dealer, self._weights, self._start = dealer, weights, start
        self._last_line, self._tracer, self._max_staleness = last_line, tracer, max_staleness
        self._bounds: Bounds | None = None
        self._auto: AutoScale | None = None
        """Decides within `_bounds`, where a request has any."""
        self._followed = len(self._fleet)
        self._change: _Change | None = None
        """What is under way."""
        self._answers: list[Ref[str]] = []
        """For each newcomer a call that ends as soon as it answers."""
        self._deadline_s = 0.0
        self._retry_at_s = 0.0
        self._failure = ""
        """Why the last try failed."""
        self._last_change = ""
        self._told: Answer | None = None
        self._tell()

    def step(self) -> None:
        """Move towards the request."""
        # All actors of the fleet took part in the sync before this call.
        self._dealer.use_first(min(self._followed, len(self._fleet)))
        self._end_those_without_work()
        if self._dealer.num_used == len(self._fleet) == self._followed:
            self._end_change()
        self._tell()
        if self._answers:
            self._add_newcomers()
        elif (decision := self._decide()) is not None and self._may_follow(decision.wanted):
            self._follow(decision)

    def _may_follow(self, wanted: int) -> bool:
        is_due = time.monotonic() >= self._retry_at_s
        return wanted < self._followed or (wanted > self._followed and is_due)

    def _decide(self) -> Decision | None:
        """What was asked for, or what the last steps say; None where nothing was asked."""
        request = read_request(self._run.scale_request)
        bounds = request if isinstance(request, Bounds) else None
        if bounds != self._bounds:
            self._bounds = bounds
            self._auto = AutoScale(bounds, max_staleness=self._max_staleness) if bounds else None
            self._tell()
        if isinstance(request, int):
            return Decision(request, "asked for")
        if self._auto is None or self._change is not None:
            return None
        return self._auto.after_step(self._last_line(), len(self._fleet))

    def _follow(self, decision: Decision) -> None:
        wanted = decision.wanted
        self._end_change("given up for another one")
        change = _Change(self._followed, decision, round(self._last_line()["step"]), time.time())
        newcomers = self._cluster.newcomers
        try:
            for number in range(len(self._fleet), wanted):
                newcomers.append(self._start(number))
        except PlacementError as error:
            # Boundary: a cluster without a device for it must not end the run.
            self._change = change
            self._give_up(newcomers, error)
            return
        except ValueError:
            # The name still belongs to an actor that was just ended; the next step tries again.
            while newcomers:
                newcomers.pop().kill()
            return
        self._followed, self._change, self._last_change = wanted, change, change.words
        self._answers = call_all(newcomers, RolloutActor.node)
        self._deadline_s = time.monotonic() + self._cluster.deadlines.start.seconds

    def _give_up(self, newcomers: list[Handle[RolloutActor]], error: Exception) -> None:
        """End all newcomers, say why, and try again later."""
        while newcomers:
            newcomers.pop().kill()
        self._followed = len(self._fleet)
        self._retry_at_s = time.monotonic() + RETRY_S
        self._failure = str(error)
        self._end_change(self._failure)
        self._tell()
        _log.warning("%s; tried again in %g s", self._failure, RETRY_S)

    def _end_those_without_work(self) -> None:
        while len(self._fleet) > self._followed and not self._dealer.num_open(len(self._fleet) - 1):
            self._weights.wait_for_loads()
            self._fleet.remove_last().kill()

    def _tell(self) -> None:
        answer = Answer(
            rollouts=len(self._fleet),
            failure=self._failure,
            change=self._last_change,
            auto=self._bounds,
        )
        if answer != self._told:
            self._told = answer
            write_answer(self._run.rollouts_json, answer)

    def _end_change(self, failure: str = "") -> None:
        """Put what was under way into the trace, from the decision on."""
        if self._change is not None:
            self._tracer.add(self._change.span(failure))
            self._change = None

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
