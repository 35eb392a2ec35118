"""Spans, the trace file and the shares made from them, with hand-made times."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.run.trace import Span, TraceFile, Tracer, busy_share


def span(start_s: float, end_s: float, actor: str = "rollout/0", name: str = "generate") -> Span:
    return Span(name=name, start_s=start_s, end_s=end_s, actor=actor, step=1)


def events_of(path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(path.read_text())
    return events


def works(path: Path) -> list[dict[str, Any]]:
    return [event for event in events_of(path) if event["ph"] == "X"]


def test_a_span_does_not_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match=r"generate of rollout/0 from 2\.0 to 1\.0"):
        span(2.0, 1.0)


def test_a_span_travels_between_processes() -> None:
    original = Span(name="train", start_s=1.0, end_s=2.0, actor="learner/0", step=4, args={"n": 3})
    assert pickle.loads(pickle.dumps(original)) == original


def test_a_tracer_hands_out_each_span_once() -> None:
    tracer = Tracer("learner/0")
    with tracer.span("train", step=2, tokens=7):
        pass
    (recorded,) = tracer.drain()
    assert (recorded.name, recorded.actor, recorded.step) == ("train", "learner/0", 2)
    assert recorded.args == {"tokens": 7}
    assert recorded.start_s <= recorded.end_s
    assert tracer.drain() == []


def test_a_tracer_records_the_work_that_failed() -> None:
    tracer = Tracer("learner/0")
    with pytest.raises(KeyError), tracer.span("train", step=2):
        raise KeyError("x")
    assert [recorded.name for recorded in tracer.drain()] == ["train"]


def test_threads_share_a_tracer_and_lose_no_span() -> None:
    tracer = Tracer("rollout/0")
    drained: list[Span] = []

    def work() -> None:
        for step in range(200):
            with tracer.span("generate", step=step):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        drained += tracer.drain()
    drained += tracer.drain()
    assert sorted(recorded.step for recorded in drained) == sorted([*range(200)] * 4)


def write_trace(path: Path, spans: Iterable[Span]) -> None:
    trace = TraceFile(path)
    trace.append(spans)
    trace.close()


def test_a_trace_has_one_named_row_for_each_actor_and_times_in_microseconds(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trace.json"
    write_trace(path, [span(10.0, 10.5), span(10.25, 10.75, "learner/0", "train")])
    assert events_of(path) == [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "rollout/0"}},
        {
            "name": "generate",
            "ph": "X",
            "ts": 10_000_000,
            "dur": 500_000,
            "pid": 1,
            "tid": 0,
            "args": {"step": 1},
        },
        {"name": "process_name", "ph": "M", "pid": 2, "args": {"name": "learner/0"}},
        {
            "name": "train",
            "ph": "X",
            "ts": 10_250_000,
            "dur": 500_000,
            "pid": 2,
            "tid": 0,
            "args": {"step": 1},
        },
    ]


def test_the_file_is_valid_after_every_append(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace = TraceFile(path)
    assert works(path) == []
    for count in (1, 2, 3):
        trace.append([span(count, count + 0.5)])
        assert len(works(path)) == count
    trace.close()


def test_spans_that_cross_lie_in_different_lanes_and_nested_ones_share_one(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write_trace(path, [span(0, 4), span(1, 2), span(3, 6), span(5, 7), span(6, 8)])
    lanes = {(event["ts"], event["tid"]) for event in works(path)}
    assert lanes == {(0, 0), (1_000_000, 0), (3_000_000, 1), (5_000_000, 0), (6_000_000, 1)}


def test_a_resumed_trace_keeps_its_rows_and_drops_the_half_written_event(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write_trace(path, [span(1, 2), span(1, 2, "learner/0")])
    path.write_bytes(path.read_bytes()[:-30])  # killed inside the last event
    trace = TraceFile(path)
    trace.append([span(3, 4, "learner/0"), span(3, 4, "reward/0")])
    trace.close()
    rows = {e["args"]["name"]: e["pid"] for e in events_of(path) if e["ph"] == "M"}
    assert rows == {"rollout/0": 1, "learner/0": 2, "reward/0": 3}
    assert [(e["pid"], e["ts"]) for e in works(path)] == [
        (1, 1_000_000),
        (2, 3_000_000),
        (3, 3_000_000),
    ]


@pytest.mark.parametrize("content", [b"", b"[\n", b"[\n\n]\n"])
def test_an_empty_trace_can_be_continued(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    trace = TraceFile(path)
    trace.append([span(1, 2)])
    trace.close()
    assert len(works(path)) == 1


def test_busy_share_merges_overlaps_and_clips_to_the_window() -> None:
    # Covered inside (10, 20): 10-12, 14-17 (two overlapping spans), 19-20: 6 of 10 seconds.
    spans = [span(8, 12), span(14, 16), span(15, 17), span(15.5, 16), span(19, 30), span(1, 2)]
    assert busy_share(spans, "rollout/", ["generate"], (10.0, 20.0)) == pytest.approx(0.6)


def test_busy_share_is_the_mean_over_actors_idle_ones_included() -> None:
    spans = [span(0, 10), span(0, 5, "rollout/1"), span(0, 10, "learner/0")]
    assert busy_share(spans, "rollout/", ["generate"], (0.0, 10.0)) == pytest.approx(0.75)
    share = busy_share(spans, "rollout/", ["generate"], (0.0, 10.0), num_actors=3)
    assert share == pytest.approx(0.5)


def test_busy_share_counts_an_actor_that_left_since() -> None:
    spans = [span(0, 10), span(0, 10, "rollout/1")]
    assert busy_share(spans, "rollout/", ["generate"], (0.0, 10.0), num_actors=1) == 1.0


def test_busy_share_counts_only_the_named_work() -> None:
    spans = [span(0, 2, "learner/0", "train"), span(2, 3, "learner/0", "sync"), span(3, 9)]
    assert busy_share(spans, "learner/", ["train", "sync"], (0.0, 10.0)) == pytest.approx(0.3)
    assert busy_share(spans, "reward/", ["score"], (0.0, 10.0)) == 0.0
    with pytest.raises(ValueError, match="must end after it starts"):
        busy_share(spans, "learner/", ["train"], (1.0, 1.0))
