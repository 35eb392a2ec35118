"""Configuration -> the running actors of one GRPO run, and their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.learner import LearnerActor
from actors.placement import Bundle, bundles_of, cluster_nodes, place
from actors.reward import RewardActor
from actors.rollout import RolloutActor, rollout_spec
from actors.waiting import results_of
from t2g_ray.config import DeadlineConfig, GrpoConfig
from t2g_ray.learner import LearnerSpec
from t2g_ray.progress import announced_wait
from t2g_ray.trace import Span

_ROLLOUT_THREADS = 16
"""Calls one rollout actor serves at a time: generating, loading weights, questions."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Handles of all actors, in order of their numbers."""

    rollouts: tuple[Any, ...]
    rewards: tuple[Any, ...]
    learners: tuple[Any, ...]

    def each_learner(
        self, method: str, *arguments: Any, timeout_s: float | None = None
    ) -> list[Any]:
        """Call a collective method on all ranks at once."""
        calls = [getattr(learner, method).remote(*arguments) for learner in self.learners]
        with announced_wait(lambda: f"{method} on {len(calls)} learner ranks"):
            results: list[Any] = ray.get(calls, timeout=timeout_s)
        return results

    def drain_spans(self, deadlines: DeadlineConfig) -> list[Span]:
        """Spans of all actors since the last call. Learner ranks answer between two steps."""
        calls = {name: actor.drain_spans.remote() for name, actor in self._named().items()}
        spans = results_of(calls, "collection of trace spans", deadlines, "train_s")
        return [span for part in spans for span in part]

    def placement(self) -> dict[str, str]:
        """Actor -> id of its node."""
        actors = self._named()
        nodes = ray.get([actor.node.remote() for actor in actors.values()])
        return dict(zip(actors, nodes, strict=True))

    def _named(self) -> dict[str, Any]:
        roles = {"rollout": self.rollouts, "reward": self.rewards, "learner": self.learners}
        return {f"{role}/{i}": a for role, items in roles.items() for i, a in enumerate(items)}

    def close(self) -> None:
        """End every actor; nothing of the run stays on the cluster."""
        for actor in [*self.rollouts, *self.rewards, *self.learners]:
            ray.kill(actor)


def start_cluster(config: GrpoConfig, model: str, tokenizer_path: str) -> Cluster:
    """Check that everything fits, then start all actors and wait until each one answers.

    Raises PlacementError before anything was started.
    """
    bundles = place(bundles_of(config), cluster_nodes())
    by_role = {
        role: [b for b in bundles if b.role == role] for role in ("learner", "rollout", "reward")
    }
    cluster = Cluster(
        rollouts=_start_rollouts(config, by_role["rollout"], model),
        rewards=_start_rewards(config, by_role["reward"], tokenizer_path),
        learners=_start_learners(config, by_role["learner"], model),
    )
    waits = [actor.drain_spans.remote() for actor in (*cluster.rollouts, *cluster.rewards)]
    with announced_wait(lambda: "rollout and reward actors to start"):
        ray.get(waits, timeout=config.deadlines.start_s)
    return cluster


def _thread_variables(threads: int) -> dict[str, str]:
    # Read when a math library is loaded, which is before the actor's own first line.
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def _start_rollouts(config: GrpoConfig, bundles: Sequence[Bundle], model: str) -> tuple[Any, ...]:
    actor = ray.remote(RolloutActor)
    return tuple(
        actor.options(
            name=f"rollout/{bundle.number}",
            namespace=_namespace(config),
            max_concurrency=_ROLLOUT_THREADS,
            runtime_env={"env_vars": _thread_variables(config.rollout.threads)},
            **bundle.options,
        ).remote(rollout_spec(config, model, sampler=bundle.number))
        for bundle in bundles
    )


def _start_rewards(
    config: GrpoConfig, bundles: Sequence[Bundle], tokenizer_path: str
) -> tuple[Any, ...]:
    actor = ray.remote(RewardActor)
    return tuple(
        actor.options(
            name=f"reward/{bundle.number}",
            namespace=_namespace(config),
            runtime_env={"env_vars": _thread_variables(1)},
            **bundle.options,
        ).remote(bundle.number, tokenizer_path, config.reward_spec, config.prompt.thinking)
        for bundle in bundles
    )


def _start_learners(config: GrpoConfig, bundles: Sequence[Bundle], model: str) -> tuple[Any, ...]:
    learner = config.learner
    actor: Any = ray.remote(LearnerActor)
    ranks: tuple[Any, ...] = tuple(
        actor.options(
            name=f"learner/{bundle.number}",
            namespace=_namespace(config),
            runtime_env={"env_vars": _thread_variables(learner.threads)},
            **bundle.options,
        ).remote(bundle.number, learner.ranks, learner.threads, not learner.gpus)
        for bundle in bundles
    )
    spec = LearnerSpec(
        model=model,
        config=learner,
        algorithm=config.algorithm,
        temperature=config.sampling.temperature,
        total_steps=config.steps,
        seed=config.seed,
        objective="policy",
    )
    address, port = ray.get(ranks[0].address.remote(), timeout=config.deadlines.start_s)
    calls = [rank.start.remote(address, port, spec) for rank in ranks]
    with announced_wait(lambda: f"{len(ranks)} learner ranks to start"):
        ray.get(calls, timeout=config.deadlines.start_s)
    return ranks


def _namespace(config: GrpoConfig) -> str:
    return f"t2g:{Path(config.run_dir).resolve()}"
