"""Configuration -> the running actors of one GRPO run, and their end."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from actors.cluster.placement import Bundle, bundles_of, cluster_nodes, place
from actors.cluster.waiting import results_of
from actors.workers.learner import LearnerActor
from actors.workers.reward import reward_actor_class
from actors.workers.rollout import RolloutActor
from t2g_ray.config import DeadlineConfig, GrpoConfig
from t2g_ray.grpo.stages import LoopError
from t2g_ray.learner.learner import LearnerSpec
from t2g_ray.rollout.spec import rollout_spec
from t2g_ray.run.trace import Span

_ROLLOUT_THREADS = 16
"""Calls one rollout actor serves at a time: generating, loading weights, questions."""


@dataclass(slots=True)
class Cluster:
    """Handles of the actors that were started, by role and in order of their numbers."""

    deadlines: DeadlineConfig
    rollouts: list[Any] = field(default_factory=list)
    rewards: list[Any] = field(default_factory=list)
    learners: list[Any] = field(default_factory=list)
    newcomers: list[Any] = field(default_factory=list)
    """Rollout actors that start while the run goes on."""

    def each_learner(
        self, method: str, *arguments: Any, phase: str, deadline: str = "train_s"
    ) -> list[Any]:
        """Call a collective method on all ranks at once."""
        return self._each(_named("learner", self.learners), method, arguments, phase, deadline)

    def _each(
        self,
        actors: dict[str, Any],
        method: str,
        arguments: tuple[Any, ...],
        phase: str,
        deadline: str,
    ) -> list[Any]:
        calls = {name: getattr(actor, method).remote(*arguments) for name, actor in actors.items()}
        return results_of(calls, phase, self.deadlines, deadline)

    def _all(self) -> dict[str, Any]:
        return {
            **_named("rollout", self.rollouts),
            **_named("reward", self.rewards),
            **_named("learner", self.learners),
        }

    def drain_spans(self) -> list[Span]:
        """Spans of all actors since the last call."""
        answers = self._each(self._all(), "drain_spans", (), "collection of the trace", "train_s")
        return [span for spans in answers for span in spans]

    def placement(self) -> dict[str, str]:
        """Actor -> id of its node."""
        actors = self._all()
        nodes = self._each(actors, "node", (), "question for the nodes", "train_s")
        return dict(zip(actors, nodes, strict=True))

    def wait_for_samplers(self) -> None:
        """Wait until all rollout and reward actors answer."""
        samplers = {**_named("rollout", self.rollouts), **_named("reward", self.rewards)}
        self._each(samplers, "node", (), "start of rollout and reward actors", "start_s")

    def close(self) -> None:
        """End every actor; nothing of the run stays on the cluster."""
        for actor in [*self._all().values(), *self.newcomers]:
            ray.kill(actor)


def _named(role: str, actors: list[Any]) -> dict[str, Any]:
    return {f"{role}/{number}": actor for number, actor in enumerate(actors)}


def start_cluster(config: GrpoConfig, model: str, tokenizer_path: str) -> Cluster:
    """Check that everything fits, then start all actors and wait until each one answers.

    Raises PlacementError before anything was started. Whatever else goes wrong, no actor stays.
    """
    bundles = place(bundles_of(config), cluster_nodes())
    cluster = Cluster(config.deadlines)
    try:
        for bundle in bundles:
            if bundle.role == "learner":
                cluster.learners.append(_start_learner(config, bundle))
            elif bundle.role == "rollout":
                cluster.rollouts.append(_start_rollout(config, bundle, model))
            else:
                cluster.rewards.append(_start_reward(config, bundle, tokenizer_path))
        _join_learners(config, cluster, model)
        cluster.wait_for_samplers()
    except BaseException as error:
        cluster.close()
        if isinstance(error, LoopError):
            error.add_note(f"left free on the cluster: {ray.available_resources()}")
        raise
    return cluster


def start_newcomer(config: GrpoConfig, model: str, number: int) -> Any:
    """One more rollout actor of a live run; it reserves CPUs only where some are free."""
    rollout = config.rollout
    has_room = ray.available_resources().get("CPU", 0.0) >= rollout.threads
    cpus = rollout.threads if has_room else 0.001
    nodes = cluster_nodes()
    own = any(node.get("rollout") for node in nodes)
    return _start_rollout(config, Bundle("rollout", number, cpus, rollout.gpus, own), model)


def _start(
    config: GrpoConfig,
    bundle: Bundle,
    actor: Any,
    *arguments: Any,
    threads: int = 1,
    max_concurrency: int = 1,
) -> Any:
    # Read when a math library is loaded, which is before the actor's own first line.
    variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return actor.options(
        name=f"{bundle.role}/{bundle.number}",
        namespace=f"t2g:{Path(config.run_dir).resolve()}",
        max_concurrency=max_concurrency,
        runtime_env={"env_vars": variables},
        **bundle.options,
    ).remote(*arguments)


def _start_rollout(config: GrpoConfig, bundle: Bundle, model: str) -> Any:
    return _start(
        config,
        bundle,
        ray.remote(RolloutActor),
        rollout_spec(config, model, sampler=bundle.number),
        threads=config.rollout.threads,
        max_concurrency=_ROLLOUT_THREADS,
    )


def _start_reward(config: GrpoConfig, bundle: Bundle, tokenizer_path: str) -> Any:
    arguments = (bundle.number, tokenizer_path, config.reward_spec, config.prompt.thinking)
    return _start(config, bundle, reward_actor_class(), *arguments, os.getcwd())


def _start_learner(config: GrpoConfig, bundle: Bundle) -> Any:
    learner = config.learner
    arguments = (bundle.number, learner.ranks, learner.threads, not learner.gpus)
    return _start(config, bundle, ray.remote(LearnerActor), *arguments, threads=learner.threads)


def _join_learners(config: GrpoConfig, cluster: Cluster, model: str) -> None:
    """Bring the ranks together and have each one build the model."""
    phase = "start of the learner ranks"
    first = {"learner/0": cluster.learners[0].address.remote()}
    address, port = results_of(first, phase, config.deadlines, "start_s")[0]
    learner = config.learner
    spec = LearnerSpec(
        model=model,
        config=learner,
        algorithm=config.algorithm,
        temperature=config.sampling.temperature,
        total_steps=config.steps,
        seed=config.seed,
        objective="policy",
    )
    cluster.each_learner("start", address, port, spec, phase=phase, deadline="start_s")
