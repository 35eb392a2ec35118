"""A run that does not fit -> the smallest change of its settings with which it would.

The changes are tried in a fixed order: first one setting, then several, and of as many those first
that cost the least time. None changes what is learned but the last, adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from t2g_ray.config import ConfigError, GrpoConfig, StageConfig, build_config
from t2g_ray.planning.cluster import Cluster
from t2g_ray.planning.memory.places import plan_memory
from t2g_ray.planning.parts import Change, Seat
from t2g_ray.planning.shapes import ModelShape

Settings = Mapping[str, object]
Seating = Callable[[StageConfig], Sequence[Seat]]
"""Where the actors of a configuration would be; raises ValueError where they find no place."""


def smallest_change(
    config: StageConfig, shape: ModelShape, seating: Seating, cluster: Cluster
) -> Change | None:
    """The first change with which everything fits; None where none of the list does it."""
    for settings in candidates(config):
        changed = _changed(config, settings)
        if changed is None:
            continue
        try:
            seats = seating(changed)
        except ValueError:
            continue  # its actors find no place
        memory = plan_memory(changed, shape, seats, cluster)
        if memory.short is None:
            return Change(settings, memory.places)
    return None


def _changed(config: StageConfig, settings: Settings) -> StageConfig | None:
    """The configuration with these settings; None where they do not go together."""
    tree = config.model_dump(mode="json")
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[name] = value
    try:
        return build_config(type(config), tree)
    except ConfigError:
        return None


def candidates(config: StageConfig) -> Iterator[Settings]:
    """What is tried, in this order: few changes before many, adapters last."""
    of_learner = _with_sums(_of_learner(config))
    of_engine = _with_sums(_of_engine(config) if isinstance(config, GrpoConfig) else [])
    both = sorted(
        ((one + other) for one in of_learner for other in of_engine),
        key=lambda units: (_ADAPTERS in units, len(units)),
    )
    for units in both[1:]:
        yield {key: value for unit in units for key, value in unit.items()}


_ADAPTERS: Settings = {"learner.lora.rank": 16}
Units = tuple[Settings, ...]
"""Changes that are made together; of one setting the last value counts."""


def _with_sums(changes: Sequence[Settings]) -> list[Units]:
    """None of them, each of them, and each with all before it."""
    sums = [tuple(changes[: number + 1]) for number in range(1, len(changes))]
    return [(), *((change,) for change in changes), *sums]


def _of_learner(config: StageConfig) -> list[Settings]:
    learner = config.learner
    changes: list[Settings] = []
    if not learner.gradient_checkpointing:
        changes.append({"learner.gradient_checkpointing": True})
    changes += [{"learner.token_budget": budget} for budget in _smaller_budgets(config)]
    if learner.head_chunk_mib > 64:
        changes.append({"learner.head_chunk_mib": 64})
    if learner.ranks > 1:
        stages = range(learner.zero_stage + 1, 4)
        changes += [{"learner.zero_stage": stage} for stage in stages]
    stage = max(1, learner.zero_stage)
    if not learner.has_optimizer_on_host:
        changes.append({"learner.offload": "optimizer", "learner.zero_stage": stage})
    changes += [{"learner.ranks": learner.ranks * n, "learner.zero_stage": 3} for n in (2, 4, 8)]
    if not learner.lora.rank:
        changes.append(_ADAPTERS)
    return changes


def _smaller_budgets(config: StageConfig) -> list[int]:
    """Halves of the budget down to the longest sample."""
    least = 16
    if isinstance(config, GrpoConfig):
        least = config.prompt.max_tokens + config.sampling.max_new_tokens - 1
    halves = [config.learner.token_budget // 2**n for n in range(1, 10)]
    budgets = [half for half in halves if half > least]
    return [*budgets, least] if least < config.learner.token_budget else []


def _of_engine(config: GrpoConfig) -> list[Settings]:
    rollout = config.rollout
    changes: list[Settings] = []
    if rollout.gpus and config.colocate == "off" and rollout.gpu_memory_utilization < 0.92:
        changes.append({"rollout.gpu_memory_utilization": 0.92})
    if rollout.max_sequences > 64:
        changes.append({"rollout.max_sequences": 64})
    if rollout.pass_tokens > 2048:
        changes.append({"rollout.pass_tokens": 2048})
    if not rollout.gpus and rollout.kv_cache_gib > 1:
        changes.append({"rollout.kv_cache_gib": 1.0})
    if rollout.gpus >= 1:
        sizes = [size for size in (2, 4, 8) if size > rollout.tensor_parallel]
        changes += [{"rollout.tensor_parallel": n, "rollout.gpus": n} for n in sizes]
    if rollout.actors > 1:
        changes.append({"rollout.actors": rollout.actors // 2})
    return changes
