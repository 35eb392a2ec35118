"""A shard over which actors died -> its outcomes, record by record.

Invariant: who holds the number of the record at hand knows over which one an actor died. A record
is given up when that happened MAX_DEATHS times, and only by an actor that survives a small
question; so neither a text that ends every actor nor an actor that always ends takes the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from t2g_ray.data.generate.shards import Shard, ShardResult, answer_shard
from t2g_ray.data.generate.stages import NO_RECORD, TeacherStage, small_question
from t2g_ray.data.generate.teachers.teacher import (
    FAILED,
    Keep,
    Teacher,
    TeacherOutcome,
    keep_nothing,
)

MAX_DEATHS = 2


def answer_one_by_one(
    stage: TeacherStage,
    teacher: Teacher,
    shard: Shard,
    *,
    deaths: Mapping[int, int],
    begin: Callable[[int], object],
    keep: Keep,
) -> ShardResult:
    """`deaths`: number of a record -> actors that died while they answered about it.

    `begin` is told the number of each record, or NO_RECORD, before anything is asked about it.
    """
    found: list[TeacherOutcome] = []
    error = ""
    for number, record in enumerate(shard.records, start=shard.first):
        if deaths.get(number, 0) >= MAX_DEATHS:
            begin(NO_RECORD)
            if error := _error_without_record(stage, teacher, deaths):
                break
            message = f"{deaths[number]} actors died over it"
            found += [
                TeacherOutcome(number=number, sample=sample, reason=FAILED, message=message)
                for sample in range(stage.samples)
            ]
            continue
        begin(number)
        answered = tuple(outcome for outcome in shard.answered if outcome.number == number)
        one = replace(shard, first=number, records=(record,), answered=answered)
        result = answer_shard(stage, teacher, one, keep)
        for answer in result.answers:
            keep(answer)
        found += result.outcomes
        if error := result.error:
            break
    return ShardResult(number=shard.number, outcomes=tuple(found), error=error)


def _error_without_record(stage: TeacherStage, teacher: Teacher, deaths: Mapping[int, int]) -> str:
    """Why the teacher answers nothing at all; empty when it answers a small question."""
    if deaths.get(NO_RECORD):
        return "actors died over it, and over a small question too"
    # Boundary: as in `answer_shard`.
    try:
        (outcome,) = teacher.answer([small_question(is_graph=stage.name == "graph")], keep_nothing)
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"
    return outcome.message
