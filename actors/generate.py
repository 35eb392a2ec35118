"""Shards -> outcomes, on Ray Data: a pool of actors, each with a teacher of its own.

Invariants: a shard that fails ends neither the run nor another shard, its error is its result; an
answer that an endpoint gave is on the driver's disk before its shard can fail.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.devices import Demand
from actors.cluster.handles import Handle, Ref, get_all, process_variables
from actors.cluster.placement import connect, place_now
from actors.cluster.refusal import check_device
from t2g_ray.data.generate.config import GenerateConfig, TeacherConfig
from t2g_ray.data.generate.one_by_one import MAX_DEATHS, answer_one_by_one
from t2g_ray.data.generate.pipeline import Pipeline
from t2g_ray.data.generate.shards import Shard, ShardResult, answer_shard, keep_answer
from t2g_ray.data.generate.stages import TeacherStage
from t2g_ray.data.generate.teachers.start import start_teacher
from t2g_ray.data.generate.teachers.teacher import TeacherOutcome
from t2g_ray.data.generate.write import write_generated
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import JsonLine
from t2g_ray.run.resume.ending import kept_failure
from t2g_ray.run.resume.lock import held

WHOLE = -2
"""Stands for all records of a shard, where the number of one is asked for."""
MAX_DEATHS_OF_SHARD = 10
"""This many show that more than some of its texts is the cause."""


def run_generate(config: GenerateConfig) -> JsonLine:
    """Run or resume `t2g data generate`; returns the card."""
    if any(one.model and not one.base_url for one in (config.teacher, config.reasoner)):
        check_device(config.device)
    with held(config.run_dir), kept_failure(RunDir(config.run_dir)):
        pipeline = Pipeline(config=config, ask=ask)
        records = pipeline.run()
        return write_generated(config, records, pipeline.tally)


@dataclass(frozen=True, slots=True)
class Past:
    """What became of a shard before: answers that were kept, and what actors died over."""

    kept: tuple[TeacherOutcome, ...]
    deaths: Mapping[int, int]
    """Number of a record, NO_RECORD or WHOLE -> actors that died over it."""


class Keeper:
    """What outlives an actor that dies: the answers so far, and what it was asked at that time.

    Runs on the driver's node, whose disk the answers go to.
    """

    def __init__(self) -> None:
        self._kept: defaultdict[int, list[TeacherOutcome]] = defaultdict(list)
        self._asked: dict[int, int] = {}
        self._deaths: defaultdict[int, Counter[int]] = defaultdict(Counter)

    def begin(self, shard: int) -> Past:
        """What is known of a shard; one that was begun before has cost an actor since."""
        if shard in self._asked:
            self._deaths[shard][self._asked[shard]] += 1
        self._asked[shard] = WHOLE
        return Past(tuple(self._kept[shard]), dict(self._deaths[shard]))

    def ask(self, shard: int, record: int) -> None:
        """Note what is asked now."""
        self._asked[shard] = record

    def keep(self, shard: int, path: str, outcome: TeacherOutcome) -> None:
        """Keep an answer, on disk when this returns."""
        keep_answer(Path(path), outcome)
        self._kept[shard].append(outcome)


class TeacherActor:
    """Answers one shard a call. Ray Data makes it, calls it, and makes it again if it dies."""

    def __init__(self, stage: TeacherStage, config: TeacherConfig, keeper: Handle[Keeper]) -> None:
        self._stage, self._keeper = stage, keeper
        self._teacher = start_teacher(config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        shard = Shard.from_json(str(batch["shard"][0]))
        return {"result": [self._answer(shard).to_json()]}

    def _answer(self, shard: Shard) -> ShardResult:
        number, keeper = shard.number, self._keeper
        (past,) = get_all([keeper.call(Keeper.begin, number)])
        if sum(past.deaths.values()) >= MAX_DEATHS_OF_SHARD:
            error = f"{MAX_DEATHS_OF_SHARD} actors died over it"
            return ShardResult(number=number, outcomes=past.kept, error=error)
        shard = shard.with_answers(past.kept)
        keeping: list[Ref[None]] = []

        def keep(outcome: TeacherOutcome) -> None:
            keeping.append(keeper.call(Keeper.keep, number, shard.path, outcome))

        if past.deaths.get(WHOLE, 0) < MAX_DEATHS:
            result = answer_shard(self._stage, self._teacher, shard, keep)
        else:
            result = answer_one_by_one(
                self._stage,
                self._teacher,
                shard,
                deaths=past.deaths,
                begin=lambda record: get_all([keeper.call(Keeper.ask, number, record)]),
                keep=keep,
            )
        get_all(keeping)
        return result


def ask(
    stage: TeacherStage, teacher: TeacherConfig, shards: Sequence[Shard]
) -> Iterator[ShardResult]:
    """The results of the shards, in the order in which they finish.

    An actor that died is started again and its shard is asked for again; after MAX_DEATHS times
    record by record, so that a text that ends every actor is known and given up. Raises
    PlacementError when the actors do not fit the cluster.
    """
    connect()
    num_actors = min(teacher.actors, len(shards))
    asked = [Demand("teacher", i, teacher.threads, teacher.gpus) for i in range(num_actors)]
    reserved = place_now(asked).demands[0]
    _quiet_ray_data()
    dataset = ray.data.from_items(
        [{"shard": shard.to_json()} for shard in shards], override_num_blocks=len(shards)
    ).map_batches(
        TeacherActor,
        fn_constructor_args=(stage, teacher, _start_keeper()),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(
            # The engine lives on the thread that made it; a second call would only wait for it.
            size=num_actors,
            max_tasks_in_flight_per_actor=2,
            max_concurrent_calls_per_actor=1,
        ),
        num_cpus=reserved.cpus,
        num_gpus=reserved.gpus,
        runtime_env={"env_vars": process_variables(teacher.threads, has_gpu=teacher.gpus > 0)},
    )
    for batch in dataset.iter_batches(batch_size=1, prefetch_batches=0, batch_format="numpy"):
        yield ShardResult.from_json(str(batch["result"][0]))


def _start_keeper() -> Handle[Keeper]:
    here = ray.get_runtime_context().get_node_id()
    remote: Any = ray.remote(Keeper)
    place_here = NodeAffinitySchedulingStrategy(here, soft=False)
    options = remote.options(num_cpus=0, scheduling_strategy=place_here)
    return Handle("keeper", options.remote())


def _quiet_ray_data() -> None:
    """The run has a progress bar of its own, and a lost shard must not end the others."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
