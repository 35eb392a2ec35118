"""Parts of a start, as spans, figures and one line."""

from __future__ import annotations

import time

import pytest

from t2g_ray.run.timing import startup
from t2g_ray.run.timing.startup import (
    DRIVER,
    WITHIN,
    note,
    part,
    seconds_by_actor,
    start_line,
    take_spans,
    with_process,
)
from t2g_ray.run.trace import Span


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    take_spans("")


def test_parts_of_this_process_are_handed_out_once_and_also_where_they_failed() -> None:
    with part("model"):
        time.sleep(0.01)
    with pytest.raises(RuntimeError), part("optimiser"):
        raise RuntimeError
    spans = take_spans("learner/0")
    assert [span.name for span in spans] == ["start: model", "start: optimiser"]
    assert spans[0].end_s - spans[0].start_s >= 0.009
    assert take_spans("learner/0") == []


def test_the_first_part_of_an_actor_begins_when_it_was_asked_for() -> None:
    note("imports", 12.0, 15.0)
    note("model", 15.0, 16.0)
    spans = with_process(take_spans("learner/0"), {"learner/0": 10.0, "rollout/0": 10.0})
    assert seconds_by_actor(spans) == {"learner/0": {"process": 2.0, "imports": 3.0, "model": 1.0}}


def test_a_node_whose_clock_is_behind_gives_no_negative_time() -> None:
    note("imports", 8.0, 9.0)
    spans = with_process(take_spans("learner/0"), {"learner/0": 10.0})
    assert seconds_by_actor(spans)["learner/0"]["process"] == 0.0


def test_parts_of_one_name_add_up_and_other_spans_do_not_count() -> None:
    note("imports", 1.0, 2.0)
    note("imports", 5.0, 7.0)
    work = Span(name="train", start_s=8.0, end_s=9.0, actor="learner/0", step=0)
    assert seconds_by_actor([*take_spans("learner/0"), work]) == {"learner/0": {"imports": 3.0}}


def test_one_line_tells_the_whole_and_the_slowest_of_each_role() -> None:
    spans: list[Span] = []
    for actor, seconds in ((DRIVER, 9.0), ("rollout/0", 2.0), ("rollout/1", 4.0), ("reward/0", 1)):
        note("imports", 0.0, seconds)
        spans += take_spans(actor)
    told = start_line(spans)
    assert told.startswith("started in 9.0 s: imports 9.0; ")
    assert "rollout/1 4.0 (imports 4.0)" in told
    assert "reward/0" in told
    assert "rollout/0" not in told


def test_what_lies_within_other_parts_is_told_and_adds_nothing() -> None:
    note("warm-up", 0.0, 5.0)
    note(f"{WITHIN}compilation", 2.0, 5.0)
    spans = take_spans("rollout/0")
    note("warm-up", 0.0, 6.0)
    told = start_line([*spans, *take_spans("rollout/1")])
    assert told.endswith("; rollout/1 6.0 (warm-up 6.0)")
    assert start_line(spans).endswith("; rollout/0 5.0 (warm-up 5.0, of it compilation 3.0)")


def test_the_clock_of_an_actor_starts_before_the_rest_of_it_is_loaded() -> None:
    import actors.workers

    assert actors.workers.startup is startup
    assert time.time() >= startup.LOADED_S
