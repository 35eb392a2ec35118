"""Shards -> outcomes, on Ray Data: a pool of actors, each with a teacher of its own.

Invariant: a shard that fails ends neither the run nor another shard; its error is its result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray.data

from actors.placement import Bundle, cluster_nodes, connect, place
from t2g_ray.data.generate.config import GenerateConfig, TeacherConfig
from t2g_ray.data.generate.pipeline import Pipeline
from t2g_ray.data.generate.shards import Shard, ShardResult, answer_shard
from t2g_ray.data.generate.stages import Stage
from t2g_ray.data.generate.start import start_teacher
from t2g_ray.data.generate.write import write_generated


def run_generate(config: GenerateConfig) -> dict[str, Any]:
    """Run, or go on with, `t2g data generate`; returns the card."""
    pipeline = Pipeline(config=config, ask=ask)
    records = pipeline.run()
    return write_generated(config, records, pipeline.books)


class TeacherActor:
    """Answers one shard a call. Ray Data makes and calls it."""

    def __init__(self, stage: Stage, config: TeacherConfig) -> None:
        self._stage = stage
        self._teacher = start_teacher(config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        shard = Shard.from_json(str(batch["shard"][0]))
        return {"result": [answer_shard(self._stage, self._teacher, shard).to_json()]}


def ask(stage: Stage, teacher: TeacherConfig, shards: Sequence[Shard]) -> Iterator[ShardResult]:
    """The results of the shards, in the order in which they finish.

    An actor that died is started again and its shard is asked for again. Raises PlacementError
    when the actors do not fit the cluster.
    """
    connect()
    num_actors = min(teacher.actors, len(shards))
    asked = [Bundle("teacher", i, teacher.threads, teacher.gpus) for i in range(num_actors)]
    bundle = place(asked, cluster_nodes())[0]
    _quiet_ray_data()
    dataset = ray.data.from_items(
        [{"shard": shard.to_json()} for shard in shards], override_num_blocks=len(shards)
    ).map_batches(
        TeacherActor,
        fn_constructor_args=(stage, teacher),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(
            # The engine lives on the thread that made it; a second call would only wait for it.
            size=num_actors,
            max_tasks_in_flight_per_actor=2,
            max_concurrent_calls_per_actor=1,
        ),
        num_cpus=bundle.cpus,
        num_gpus=bundle.gpus,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(teacher.threads)}},
    )
    for batch in dataset.iter_batches(batch_size=1, prefetch_batches=0, batch_format="numpy"):
        yield ShardResult.from_json(str(batch["result"][0]))


def _quiet_ray_data() -> None:
    """The run has a progress bar of its own, and a shard that is lost costs itself only."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
