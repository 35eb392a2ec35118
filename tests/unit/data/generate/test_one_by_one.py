"""A shard over which actors died: the text that ends them is found, and costs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.data.generate.one_by_one import MAX_DEATHS, answer_one_by_one
from t2g_ray.data.generate.shards import Shard, ShardResult
from t2g_ray.data.generate.stages import NO_RECORD, TeacherRequest, TeacherStage
from t2g_ray.data.generate.teachers.teacher import Keep, TeacherOutcome
from t2g_ray.records.corpus import generate_records

STAGE = TeacherStage(name="graph", samples=2, seed=0)
SHARD = Shard(number=3, first=10, records=tuple(generate_records("train", 5, seed=0)))
NUMBERS = range(10, 15)


class Death(BaseException):
    """The end of a process, which nothing in it catches."""


class DeadlyTeacher:
    """Does not survive some texts; the numbers include NO_RECORD when it survives nothing."""

    def __init__(self, deadly: set[int]) -> None:
        self.deadly = deadly
        self.asked = Counter[int]()

    def answer(
        self, requests: Sequence[TeacherRequest], keep: Keep = print
    ) -> list[TeacherOutcome]:
        self.asked.update({request.number for request in requests})
        if any(request.number in self.deadly for request in requests):
            raise Death
        return [TeacherOutcome(number=r.number, sample=r.sample, text="{}") for r in requests]


def lives_of(teacher: DeadlyTeacher) -> ShardResult:
    """What remains after as many actors as it takes."""
    deaths, kept = Counter[int](), dict[tuple[int, int], TeacherOutcome]()
    for _ in range(20):
        at_hand: list[int] = []
        shard = SHARD.with_answers(kept.values())
        try:
            return answer_one_by_one(
                STAGE,
                teacher,
                shard,
                deaths=deaths,
                begin=at_hand.append,
                keep=lambda o: kept.update({(o.number, o.sample): o}),
            )
        except Death:
            deaths[at_hand[-1]] += 1
    raise AssertionError("it never ends")


@given(deadly=st.sets(st.sampled_from(NUMBERS)))
def test_the_texts_that_end_actors_are_given_up_and_no_other_is_asked_twice(
    deadly: set[int],
) -> None:
    teacher = DeadlyTeacher(deadly)
    result = lives_of(teacher)
    assert result.error == ""
    assert [(o.number, o.sample, o.reason) for o in result.outcomes] == [
        (number, sample, "teacher_failed" if number in deadly else "")
        for number in NUMBERS
        for sample in range(2)
    ]
    assert all("2 actors died over it" in o.message for o in result.outcomes if o.reason)
    assert all(teacher.asked[n] == (MAX_DEATHS if n in deadly else 1) for n in NUMBERS)


@pytest.mark.parametrize("others", [set(), {12}, set(NUMBERS)])
def test_a_teacher_that_survives_no_question_at_all_gives_up_no_text(others: set[int]) -> None:
    result = lives_of(DeadlyTeacher({10, NO_RECORD, *others}))
    assert result.outcomes == ()
    assert result.error == "actors died over it, and over a small question too"
