"""One shard of requests, answered whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from t2g_ray.data.generate.shards import Shard, answer_shard
from t2g_ray.data.generate.stages import TeacherRequest, TeacherStage
from t2g_ray.data.generate.teachers.teacher import TeacherOutcome, answer_all
from t2g_ray.records.corpus import generate_records

GOLD = {record.text: record for record in generate_records("train", 12, seed=0)}


def test_a_batch_of_which_nothing_succeeds_is_not_written_down_as_failed() -> None:
    class BrokenTeacher:
        def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherOutcome]:
            raise RuntimeError("engine died")

    stage = TeacherStage(name="graph", samples=2, seed=0)
    shard = Shard(number=3, first=6, records=tuple(GOLD.values())[:2])
    result = answer_shard(stage, BrokenTeacher(), shard)
    assert (result.number, result.outcomes) == (3, ())
    assert result.error == "RuntimeError: engine died"
    with pytest.raises(RuntimeError, match="engine died"):
        answer_all(BrokenTeacher(), stage.requests(0, shard.records[0]))
