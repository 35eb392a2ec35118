"""Configuration -> the running actors of one GRPO run, and their end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate

import ray

from actors.cluster.devices import Demand, PlacementError
from actors.cluster.fleet import Fleet
from actors.cluster.handles import (
    Handle,
    Parameters,
    Ref,
    Result,
    call_all,
    process_variables,
    put,
)
from actors.cluster.placement import cluster_nodes, demands_of, place, place_now
from actors.cluster.reservation import Reservation, Seat, reserve
from actors.cluster.sequence import begin_with_the_learner, make_room, sized
from actors.cluster.storage.nodes import prepare_nodes
from actors.cluster.waiting import result_of, results_of
from actors.watch.gauges import RUN_OF_ACTOR, run_tag
from actors.workers.learner import LearnerActor
from actors.workers.reward import RewardActor, reward_actor_class
from actors.workers.rollout import RolloutActor
from t2g_ray.config import DeadlineConfig, GrpoConfig
from t2g_ray.grpo.stages import LoopError
from t2g_ray.learner.learner import learner_spec
from t2g_ray.learner.turns.taking import DeviceMemory
from t2g_ray.rollout.spec import rollout_spec
from t2g_ray.run.checkpoint import Share
from t2g_ray.run.timing.startup import with_process
from t2g_ray.run.trace import Span

ROLES = ("learner", "reward", "rollout")
"""In the order in which their actors are started."""

_ROLLOUT_THREADS = 16
"""Calls that one rollout actor serves at a time: generating, loading weights, questions."""


@dataclass(slots=True)
class Cluster:
    """The actors of one run by role, in order of their numbers."""

    deadlines: DeadlineConfig
    fleet: Fleet = field(default_factory=Fleet)
    rewards: list[Handle[RewardActor]] = field(default_factory=list)
    learners: list[Handle[LearnerActor]] = field(default_factory=list)
    newcomers: list[Handle[RolloutActor]] = field(default_factory=list)
    """Rollout actors that start while the run goes on."""
    reservation: Reservation = field(default_factory=Reservation)
    """The devices of those that started with the run."""
    ready_nodes: set[str] = field(default_factory=set)
    """Ids of those that have the run's storage and the files that actors read."""

    def each_learner(
        self,
        phase: str,
        method: Callable[Concatenate[LearnerActor, Parameters], Result],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> list[Result]:
        """Have all ranks write or read files at once; `phase` names it in errors."""
        calls = call_all(self.learners, method, *arguments, **keywords)
        return results_of(calls, phase, self.deadlines.save)

    def start_spans(self) -> list[Span]:
        """The start of all actors by parts; once, when all of them answer."""
        handles: list[Handle[Any]] = [*self.fleet, *self.rewards, *self.learners]
        asked = {handle.name: handle.asked_s for handle in handles}
        return with_process(self.drain_spans(), asked)

    def save(self, step: int, folder: Path) -> list[Share]:
        """Have all ranks write into the temporary folder of a checkpoint."""
        return self.each_learner(f"checkpoint of step {step}", LearnerActor.save, folder)

    def drain_spans(self) -> list[Span]:
        """Spans of all actors since the last call."""
        calls = [
            *call_all(self.fleet, RolloutActor.drain_spans),
            *call_all(self.rewards, RewardActor.drain_spans),
            *call_all(self.learners, LearnerActor.drain_spans),
        ]
        answers = results_of(calls, "collection of the trace", self.deadlines.train)
        return [span for spans in answers for span in spans]

    def placement(self) -> dict[str, str]:
        """Actor -> id of its node."""
        calls = [*self._ask_samplers(), *call_all(self.learners, LearnerActor.node)]
        nodes = results_of(calls, "question for the nodes", self.deadlines.train)
        return {call.actor: node for call, node in zip(calls, nodes, strict=True)}

    def devices(self) -> dict[str, str]:
        """Actor -> its GPUs in words, of those that have one."""
        handles: list[Handle[Any]] = [*self.fleet, *self.learners]
        return {handle.name: handle.where for handle in handles if handle.where}

    def _ask_samplers(self) -> list[Ref[str]]:
        rollouts = call_all(self.fleet, RolloutActor.node)
        return [*rollouts, *call_all(self.rewards, RewardActor.node)]

    def wait_for_samplers(self) -> None:
        """Wait until all rollout and reward actors answer."""
        phase = "start of rollout and reward actors"
        results_of(self._ask_samplers(), phase, self.deadlines.start)

    def close(self) -> None:
        """End every actor; nothing of the run stays on the cluster."""
        for handle in (*self.fleet, *self.rewards, *self.learners, *self.newcomers):
            handle.kill()
        self.reservation.release()


def start_cluster(
    config: GrpoConfig, model: str, tokenizer: Any, *, checkpoint: str = ""
) -> Cluster:
    """Check that everything fits, then start all actors and wait until each one answers.

    `checkpoint` is the name of the one that the ranks will read.

    Raises PlacementError before anything is started. After any other failure no actor is left.
    """
    placement = place_now(demands_of(config))
    ready = prepare_nodes(config, placement, model, checkpoint=checkpoint)
    reservation = reserve(placement, config.deadlines.start)
    cluster = Cluster(config.deadlines, reservation=reservation, ready_nodes=ready)
    try:
        shared = put(tokenizer)
        memory: DeviceMemory | None = None
        for seat in sorted(reservation.seats, key=lambda seat: ROLES.index(seat.role)):
            if seat.role == "learner":
                cluster.learners.append(_start_learner(config, seat))
            elif seat.role == "reward":
                cluster.rewards.append(_start_reward(config, seat, shared))
            else:
                if config.colocate != "off" and memory is None:
                    _join_learners(config, cluster, model)
                    memory = make_room(config, cluster.learners)
                cluster.fleet.add(_start_rollout(config, seat, model, memory))
        if memory is None:
            _join_learners(config, cluster, model)
        cluster.wait_for_samplers()
        if config.colocate == "time":
            begin_with_the_learner(config, cluster.learners, cluster.fleet)
    except BaseException as error:
        cluster.close()
        if isinstance(error, LoopError):
            error.add_note(f"left free on the cluster: {ray.available_resources()}")
        raise
    return cluster


def start_newcomer(
    cluster: Cluster, config: GrpoConfig, model: str, number: int
) -> Handle[RolloutActor]:
    """One more rollout actor of a live run; it reserves CPUs only where some are free.

    It gets the devices of the actor that had its number at the start of the run, else devices of
    its own. Raises PlacementError where there are none, ValueError where the name is still taken.
    """
    seat = cluster.reservation.seat("rollout", number)
    if seat is not None and config.rollout.gpus:
        return _start_rollout(config, seat, model)
    if config.rollout.gpus and config.sync.transport == "ipc":
        raise PlacementError(
            "sync.transport=ipc needs a learner rank on the device of every rollout actor, so this "
            f"run has at most the {config.rollout.actors} that it started with; start it with "
            "sync.transport=store or broadcast to give it more"
        )
    rollout, nodes = config.rollout, cluster_nodes()
    has_room = ray.available_resources().get("CPU", 0.0) >= rollout.cpus
    # All CPUs of a node with a free device may be reserved, so none of them is asked for.
    cpus = rollout.cpus if has_room and not rollout.gpus else 0.001
    placement = place([Demand("rollout", number, cpus, rollout.gpus)], nodes)
    cluster.ready_nodes = prepare_nodes(config, placement, model, known=cluster.ready_nodes)
    own = reserve(placement, config.deadlines.start)
    try:
        return replace(_start_rollout(config, own.seats[0], model), held=own)
    except BaseException:
        own.release()
        raise


def _start(
    config: GrpoConfig,
    seat: Seat,
    actor: Any,
    *arguments: Any,
    threads: int = 1,
    max_concurrency: int = 1,
) -> Handle[Any]:
    asked_s, run = time.time(), run_tag(config)
    variables = process_variables(threads, has_gpu=bool(seat.where))
    started = actor.options(
        name=seat.actor,
        namespace=f"t2g:{run}",
        max_concurrency=max_concurrency,
        runtime_env={"env_vars": {**variables, RUN_OF_ACTOR: run}},
        **seat.options,
    ).remote(*arguments)
    return Handle(seat.actor, started, seat.where, asked_s=asked_s)


def _start_rollout(
    config: GrpoConfig, seat: Seat, model: str, memory: DeviceMemory | None = None
) -> Handle[RolloutActor]:
    """`memory` is that of the device where a learner rank is there already."""
    return _start(
        config,
        seat,
        ray.remote(RolloutActor),
        sized(rollout_spec(config, model, sampler=seat.number), memory),
        threads=config.rollout.threads,
        max_concurrency=_ROLLOUT_THREADS,
    )


def _start_reward(config: GrpoConfig, seat: Seat, tokenizer: Ref[Any]) -> Handle[RewardActor]:
    arguments = (seat.number, tokenizer.as_argument(), config.reward_spec, config.prompt.thinking)
    return _start(config, seat, reward_actor_class(), *arguments, os.getcwd())


def _start_learner(config: GrpoConfig, seat: Seat) -> Handle[LearnerActor]:
    learner = config.learner
    arguments = (seat.number, learner.ranks, learner.threads, not learner.gpus)
    return _start(config, seat, ray.remote(LearnerActor), *arguments, threads=learner.threads)


def _join_learners(config: GrpoConfig, cluster: Cluster, model: str) -> None:
    """Bring the ranks together and have each one build the model."""
    phase, deadline = "start of the learner ranks", config.deadlines.start
    asked = cluster.learners[0].call(LearnerActor.address)
    address, port = result_of(asked, phase, deadline)
    spec = learner_spec(config, model)
    results_of(call_all(cluster.learners, LearnerActor.start, address, port, spec), phase, deadline)
