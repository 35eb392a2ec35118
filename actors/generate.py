"""Shards -> outcomes, on Ray Data: a pool of actors, each with a teacher of its own.

Invariant: a shard that fails ends neither the run nor another shard; its error is its result.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.data

from actors.cluster.placement import Bundle, cluster_nodes, connect, place
from t2g_ray.data.generate.config import GenerateConfig, TeacherConfig
from t2g_ray.data.generate.pipeline import Pipeline
from t2g_ray.data.generate.shards import Shard, ShardResult, answer_shard
from t2g_ray.data.generate.stages import TeacherStage
from t2g_ray.data.generate.teachers.start import start_teacher
from t2g_ray.data.generate.write import write_generated
from t2g_ray.run.jsonlines import JsonLine
from t2g_ray.run.resume.lock import held

MAX_ATTEMPTS = 3
"""When this many actors have died over a shard, the shard is the cause."""


def run_generate(config: GenerateConfig) -> JsonLine:
    """Run or resume `t2g data generate`; returns the card."""
    with held(config.run_dir):
        pipeline = Pipeline(config=config, ask=ask)
        records = pipeline.run()
        return write_generated(config, records, pipeline.tally)


class Attempts:
    """Counts how often each shard was begun, also by actors that have died since."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """The number of this attempt, from 1."""
        self._counts[number] += 1
        return self._counts[number]


class TeacherActor:
    """Answers one shard a call. Ray Data makes it, calls it, and makes it again if it dies."""

    def __init__(self, stage: TeacherStage, config: TeacherConfig, attempts: Any) -> None:
        self._stage, self._attempts = stage, attempts
        self._teacher = start_teacher(config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        shard = Shard.from_json(str(batch["shard"][0]))
        if ray.get(self._attempts.begin.remote(shard.number)) > MAX_ATTEMPTS:
            error = f"{MAX_ATTEMPTS} actors died over it"
            return {"result": [ShardResult(number=shard.number, error=error).to_json()]}
        return {"result": [answer_shard(self._stage, self._teacher, shard).to_json()]}


def ask(
    stage: TeacherStage, teacher: TeacherConfig, shards: Sequence[Shard]
) -> Iterator[ShardResult]:
    """The results of the shards, in the order in which they finish.

    An actor that died is started again and its shard is asked for again, MAX_ATTEMPTS times in
    all. Raises PlacementError when the actors do not fit the cluster.
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
        fn_constructor_args=(stage, teacher, ray.remote(Attempts).options(num_cpus=0).remote()),
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
    """The run has a progress bar of its own, and a lost shard must not end the others."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
