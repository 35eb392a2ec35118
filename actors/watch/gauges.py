"""Steps of a run and states of its actors -> Ray's metrics, which the agent of each node gives to
Prometheus, as ray_t2g_*.

A figure stays as it is until the next one. Setting one writes a number in this process and waits
for nothing; the agent fetches them later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

import ray
from ray.util.metrics import Gauge

from t2g_ray.config import StageConfig
from t2g_ray.grpo.metric_keys import METRIC_KEYS
from t2g_ray.run.machine import memory_bytes

FIGURES: Mapping[str, str] = {
    "t2g_queue_groups": "Groups by where they are after a step took its own, by `place`",
    "t2g_rollout_open_groups": "Groups that a rollout actor writes, after a step, by `actor`",
    "t2g_rollout_actors": "Rollout actors that get prompts",
    "t2g_actor_version": "Newest weight version that an engine or a learner rank holds, by `actor`",
    "t2g_actor_memory_bytes": "Memory of an actor's process, by `actor`",
    "t2g_actor_device_memory_bytes": "Memory that an actor's process took of its GPU, by `actor`",
}
"""What is measured beside the keys of metrics.jsonl, each of which is a figure of its own too. All
have the tag `run`, the run folder."""

RUN_OF_ACTOR = "T2G_RUN_OF_ACTOR"
"""Variable of an actor's process: the tag `run` of its figures. Ray tells an actor the namespace of
its job, and not its own."""

_TAGS = {
    "t2g_queue_groups": ("run", "place"),
    "t2g_rollout_actors": ("run",),
}
_OF_AN_ACTOR = ("run", "actor")


def figure_name(key: str) -> str:
    """Example: "throughput/tokens_per_s" -> "t2g_throughput_tokens_per_s"."""
    return "t2g_" + re.sub(r"\W", "_", key, flags=re.ASCII)


def run_tag(config: StageConfig) -> str:
    """The value of the tag `run`: the run folder."""
    return str(config.run_dir.resolve())


class StepGauges:
    """Implements `run.metrics.MetricsSink`: in the driver, each key of a step as a figure."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Gauge] = {}

    def write(self, line: Mapping[str, float]) -> None:
        """Set the figures of a step."""
        for key, value in line.items():
            described = METRIC_KEYS.get(key)
            about = f"{key} [{described.unit}]: {described.meaning}" if described else key
            self._set(figure_name(key), about, ("run",), value, {})

    def figure(self, name: str, value: float, **tags: str) -> None:
        """Set one of FIGURES."""
        self._set(name, FIGURES[name], _TAGS.get(name, _OF_AN_ACTOR), value, tags)

    def close(self) -> None:
        """The figures stay with the agent while this process lives."""

    def _set(
        self, name: str, about: str, tag_keys: tuple[str, ...], value: float, tags: dict[str, str]
    ) -> None:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(name, description=about, tag_keys=tag_keys)
        gauge.set(float(value), tags={"run": self._run, **tags})


class LoopGauges(StepGauges):
    """Beside a step's line: where the groups are, and how many each rollout actor writes."""

    def __init__(
        self,
        config: StageConfig,
        queue: Callable[[], Mapping[str, int]],
        open_by_actor: Callable[[], Sequence[int]],
    ) -> None:
        super().__init__(run_tag(config))
        self._queue, self._open_by_actor = queue, open_by_actor
        self._most = 0
        """Rollout actors that a step had so far; those that left write nothing."""

    def write(self, line: Mapping[str, float]) -> None:
        super().write(line)
        for place, count in self._queue().items():
            self.figure("t2g_queue_groups", count, place=place)
        counts = self._open_by_actor()
        self.figure("t2g_rollout_actors", len(counts))
        self._most = max(self._most, len(counts))
        left = [0] * (self._most - len(counts))
        for number, count in enumerate([*counts, *left]):
            self.figure("t2g_rollout_open_groups", count, actor=f"rollout/{number}")


class ActorGauges:
    """Figures of the actor whose process this is; none where the process is no actor of a run."""

    def __init__(self) -> None:
        run = os.environ.get(RUN_OF_ACTOR, "")
        self._actor = _actor_name() if run else ""
        self._gauges = StepGauges(run)

    def holds(self, version: int) -> None:
        """Set the weight version that this process holds, and the memory that it takes."""
        if not self._actor:
            return
        self._figure("t2g_actor_version", version)
        self._figure("t2g_actor_memory_bytes", memory_bytes())
        if taken := device_memory_bytes():
            self._figure("t2g_actor_device_memory_bytes", taken)

    def _figure(self, name: str, value: float) -> None:
        self._gauges.figure(name, value, actor=self._actor)


def _actor_name() -> str:
    """Empty in a process that is no named actor."""
    is_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id()
    return ray.get_runtime_context().get_actor_name() or "" if is_actor else ""


def device_memory_bytes() -> int:
    """Memory that torch reserved on this process's GPU; 0 without one. Not yet run on a GPU."""
    import torch

    return int(torch.cuda.memory_reserved()) if torch.cuda.is_initialized() else 0
