"""Shards of requests: what is answered, given up and kept, whoever fails in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.shards import (
    Ask,
    Shard,
    ShardResult,
    ShardsMissing,
    answer_shard,
    keep_answer,
    run_stage,
)
from t2g_ray.data.generate.stages import TeacherRequest, TeacherStage
from t2g_ray.data.generate.teachers.teacher import (
    Keep,
    TeacherOutcome,
    TeacherUnavailable,
    answer_all,
)
from t2g_ray.records.corpus import generate_records

GOLD = {record.text: record for record in generate_records("train", 12, seed=0)}


STAGE = TeacherStage(name="graph", samples=2, seed=0)
TEACHER = TeacherConfig(model="m")


def shard_of(num: int) -> Shard:
    return Shard(number=3, first=6, records=tuple(GOLD.values())[:num])


class BrokenTeacher:
    """Takes none of the texts named, alone or among others; or nothing at all."""

    def __init__(self, *bad: int) -> None:
        self.bad, self.asked = bad, 0

    def answer(self, requests: Sequence[TeacherRequest], keep: Keep) -> list[TeacherOutcome]:
        self.asked += 1
        if not self.bad or any(request.number in self.bad for request in requests):
            raise RuntimeError("engine died")
        return [answer_to(request) for request in requests]


def answer_to(request: TeacherRequest) -> TeacherOutcome:
    return TeacherOutcome(number=request.number, sample=request.sample, text="{}")


def test_a_batch_of_a_teacher_that_answers_nothing_is_not_written_down_as_failed() -> None:
    result = answer_shard(STAGE, BrokenTeacher(), shard_of(2))
    assert (result.number, result.outcomes) == (3, ())
    assert result.error == "RuntimeError: engine died"
    with pytest.raises(RuntimeError, match="engine died"):
        answer_all(BrokenTeacher(), STAGE.requests(0, shard_of(1).records[0]))


@pytest.mark.parametrize("bad", [[6], [6, 7], [7, 8], [6, 7, 8]])
def test_texts_that_always_fail_take_neither_the_others_nor_their_shard(bad: list[int]) -> None:
    result = answer_shard(STAGE, BrokenTeacher(*bad), shard_of(3))
    assert result.error == ""
    assert [(o.number, o.reason) for o in result.outcomes] == [
        (number, "teacher_failed" if number in bad else "")
        for number in (6, 7, 8)
        for _ in range(2)
    ]


class FadingTeacher:
    """Costs money, and is gone after so many answers."""

    def __init__(self, num_answers: int) -> None:
        self.left = num_answers
        self.asked: list[tuple[int, int]] = []

    def answer(self, requests: Sequence[TeacherRequest], keep: Keep) -> list[TeacherOutcome]:
        outcomes = []
        for request in requests:
            if not self.left:
                raise TeacherUnavailable("the connection was lost")
            self.left -= 1
            self.asked.append((request.number, request.sample))
            outcomes.append(answer_to(request))
            keep(outcomes[-1])
        return outcomes


def asking(teacher: Any, *, kills: bool = False) -> Ask:
    """`kills`: the driver ends when a shard fails, and keeps what was on disk by then."""

    def ask(
        stage: TeacherStage, _: TeacherConfig, shards: Sequence[Shard]
    ) -> Iterator[ShardResult]:
        for shard in shards:
            path = Path(shard.path)
            result = answer_shard(stage, teacher, shard, lambda o, path=path: keep_answer(path, o))
            if kills and result.error:
                with path.with_suffix(".kept").open("a") as file:
                    file.write('{"number": 1, "sam')
                raise KeyboardInterrupt
            yield ShardResult.from_json(result.to_json())

    return ask


@pytest.mark.parametrize("kills", [False, True])
@settings(max_examples=15)
@given(nums=st.lists(st.integers(1, 7), max_size=4), shard_size=st.integers(1, 4))
def test_an_answer_that_was_paid_for_is_never_asked_for_again(
    kills: bool, nums: list[int], shard_size: int
) -> None:
    records = list(GOLD.values())[:5]
    asked: list[tuple[int, int]] = []
    with TemporaryDirectory() as folder:
        for num in [*nums, 99]:
            teacher = FadingTeacher(num)
            with suppress(ShardsMissing, KeyboardInterrupt):
                outcomes = run_stage(
                    STAGE,
                    TEACHER,
                    records,
                    folder=Path(folder),
                    shard_size=shard_size,
                    ask=asking(teacher, kills=kills),
                )
            asked += teacher.asked
        assert {path.suffix for path in Path(folder).iterdir()} == {".jsonl"}
    assert sorted(asked) == [(number, sample) for number in range(5) for sample in range(2)]
    assert [[(o.number, o.sample) for o in of_record] for of_record in outcomes] == [
        [(number, 0), (number, 1)] for number in range(5)
    ]
