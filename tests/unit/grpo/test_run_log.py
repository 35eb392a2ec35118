"""A step -> the files of the run folder, with shares of time by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.books import Surplus
from t2g_ray.grpo.metric_keys import missing_keys
from t2g_ray.grpo.run_log import RunLog
from t2g_ray.grpo.stages import Ready
from t2g_ray.grpo.step_line import FinishedStep, step_line
from t2g_ray.prompts.ledger import Ledger
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import JsonLinesWriter, read_json_lines
from t2g_ray.run.trace import Span
from t2g_ray.types import StepReport
from tests.unit.parts import group_summary, sync_report, train_report


def ready(index: int) -> Ready:
    return Ready(group_summary(index), f"handle of {index}")


def config(path: Path, **tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": str(path), "steps": 4, **tree})


class Desk:
    """A run log with recorded calls and spans laid out by hand."""

    def __init__(
        self, config: GrpoConfig, resume_step: int | None = None, num_samplers: int | None = None
    ) -> None:
        self.config = config
        self.run = RunDir(config.run_dir)
        self.spans: list[Span] = []
        self.evaluated: list[int] = []
        self.saved: list[tuple[int, object]] = []
        self.log = RunLog(
            config,
            self.run,
            resume_step=resume_step,
            drain_spans=self.drain,
            evaluate=self.evaluated.append,
            checkpoint=lambda step, ledger: self.saved.append((step, ledger.state())),
            sample=lambda taken: {"text": taken.handle},
            samples=JsonLinesWriter(self.run.samples, resume_step=resume_step),
            num_samplers=None if num_samplers is None else lambda: num_samplers,
        )

    def drain(self) -> list[Span]:
        spans, self.spans = self.spans, []
        return spans

    def step(self, number: int, wall_s: float = 2.0) -> None:
        taken = [ready(2 * number - 2), ready(2 * number - 1)]
        step = FinishedStep(
            summaries=[r.summary for r in taken],
            trained={r.summary.index: r.summary.lengths for r in taken},
            surplus=Surplus(),
            report=StepReport(version=number, train=train_report(), sync=sync_report()),
            time_s=wall_s * number,
            wall_s=wall_s,
        )
        self.log.after_step(step_line(step, self.config), taken, Ledger(watermark=2 * number))


def span(actor: str, name: str, start_s: float, end_s: float) -> Span:
    return Span(name=name, start_s=start_s, end_s=end_s, actor=actor, step=0)


def test_each_step_leaves_a_whole_line_a_sample_and_its_positions(tmp_path: Path) -> None:
    desk = Desk(config(tmp_path))
    with desk.log:
        desk.step(1)
        desk.step(2)
    lines = list(read_json_lines(desk.run.metrics))
    assert [line["step"] for line in lines] == [1, 2]
    assert all(not missing_keys(line) for line in lines)
    ledger = list(read_json_lines(desk.run.ledger))
    assert [line["positions"] for line in ledger] == [[0, 1], [2, 3]]
    samples = list(read_json_lines(desk.run.samples))
    assert [(s["step"], s["text"], s["split"]) for s in samples] == [
        (1, "handle of 0", "train"),
        (2, "handle of 2", "train"),
    ]


def test_times_and_idle_shares_come_from_the_spans_of_the_step(tmp_path: Path) -> None:
    desk = Desk(config(tmp_path, rollout={"actors": 2}, learner={"ranks": 2}))
    with desk.log:
        # The step ends at 12.0 with its last span and took 2 s: the window is 10 to 12.
        desk.spans = [
            span("rollout/0", "generate", 9.0, 10.5),  # 0.5 s of it lie in the window
            span("rollout/1", "generate", 10.0, 11.0),
            span("reward/0", "score", 10.9, 11.1),
            span("learner/0", "wait", 10.0, 11.0),
            span("learner/0", "train", 11.0, 11.6),
            span("learner/1", "train", 11.0, 11.5),
            span("learner/0", "gather", 11.8, 12.0),
        ]
        desk.step(1)
    (line,) = read_json_lines(desk.run.metrics)
    assert line["time/generate_s"] == pytest.approx(1.0)  # at least one sampler: 10.0 to 11.0
    assert line["time/reward_s"] == pytest.approx(0.2)
    assert line["time/train_s"] == pytest.approx(0.6)
    # Samplers worked 0.5 and 1.0 of 2 s, learners 0.8 and 0.5 of 2 s.
    assert line["idle/samplers"] == pytest.approx(1 - (0.5 + 1.0) / 4)
    assert line["idle/learner"] == pytest.approx(1 - (0.8 + 0.5) / 4)


def test_waits_of_the_learner_and_samplers_that_are_held_back_are_told_apart(
    tmp_path: Path,
) -> None:
    desk = Desk(config(tmp_path, rollout={"actors": 2}, learner={"ranks": 2}))
    with desk.log:
        # The window is 10 to 14.
        desk.spans = [
            span("loop", "wait for groups", 9.0, 11.0),
            span("rollout/0", "generate", 10.0, 11.0),
            span("rollout/1", "generate", 10.0, 10.5),  # early: the loop waits for rollout/0
            span("rollout/0", "load", 12.5, 13.0),
            span("rollout/1", "generate", 12.0, 14.0),
            span("learner/0", "train", 11.0, 14.0),
        ]
        desk.step(1, wall_s=4.0)
    (line,) = read_json_lines(desk.run.metrics)
    assert line["time/rollout_wait_s"] == pytest.approx(1.0)
    # Held back: rollout/0 from 11.0 to 12.5 and from 13.0 on, rollout/1 from 11.0 to 12.0.
    assert line["time/backpressure_s"] == pytest.approx((2.5 + 1.0) / 2)
    assert line["idle/samplers"] == pytest.approx(1 - (1.0 + 2.5) / 8)


def test_devices_are_those_of_the_rollout_actors_that_work_now(tmp_path: Path) -> None:
    desk = Desk(config(tmp_path, rollout={"actors": 1}, learner={"ranks": 2}), num_samplers=4)
    with desk.log:
        desk.step(1)
    (line,) = read_json_lines(desk.run.metrics)
    assert line["rollout/actors"] == 4
    assert line["throughput/tokens_per_s_per_device"] * 6 == pytest.approx(
        line["throughput/tokens_per_s"]
    )


def test_tokens_a_pass_are_those_of_the_samplers_since_the_step_before(tmp_path: Path) -> None:
    desk = Desk(config(tmp_path))
    with desk.log:
        parts = [
            {"tokens": 30, "passes": 10},
            {"tokens": 10, "passes": 10},
            {"tokens": 0, "passes": 0},
        ]
        desk.spans = [replace(span("rollout/0", "generate", 0.0, 1.0), args=args) for args in parts]
        desk.step(1)
        desk.spans = [span("learner/0", "train", 1.0, 2.0)]
        desk.step(2)
    assert [line["tokens/per_pass"] for line in read_json_lines(desk.run.metrics)] == [2.0, 0.0]


def test_a_span_that_reaches_over_the_end_of_a_step_counts_in_both(tmp_path: Path) -> None:
    desk = Desk(config(tmp_path))
    with desk.log:
        desk.spans = [span("rollout/0", "generate", 0.0, 2.0)]
        desk.step(1)
        desk.spans = [span("rollout/0", "generate", 1.0, 3.0), span("learner/0", "train", 3.0, 4.0)]
        desk.step(2)
    first, second = read_json_lines(desk.run.metrics)
    assert first["idle/samplers"] == pytest.approx(0.0)
    assert second["time/generate_s"] == pytest.approx(1.0)
    assert second["idle/samplers"] == pytest.approx(0.5)


def test_the_trace_is_valid_json_with_every_span(tmp_path: Path) -> None:
    desk = Desk(config(tmp_path))
    with desk.log:
        desk.spans = [span("rollout/0", "generate", 0.0, 2.0)]
        desk.step(1)
        desk.spans = [span("learner/0", "train", 2.0, 3.0)]
    events = json.loads(desk.run.trace.read_text())
    assert [e["name"] for e in events if e["ph"] == "X"] == ["generate", "train"]


def test_evaluations_and_checkpoints_come_at_their_steps_and_the_last_is_always_kept(
    tmp_path: Path,
) -> None:
    desk = Desk(config(tmp_path, steps=5, eval={"every": 2}, checkpoint={"every": 3}))
    with desk.log:
        for step in range(1, 6):
            desk.step(step)
    # The evaluation after the last step is the stage's own.
    assert desk.evaluated == [2, 4]
    assert [step for step, _ in desk.saved] == [3, 5]
    assert desk.saved[0][1] == {"watermark": 6, "ahead": []}


def test_only_the_last_state_is_kept_where_no_checkpoints_are_wanted(tmp_path: Path) -> None:
    desk = Desk(config(tmp_path, steps=2, checkpoint={"every": 0}))
    with desk.log:
        desk.step(1)
        desk.step(2)
    assert ([step for step, _ in desk.saved], desk.evaluated) == ([2], [])


def test_a_resumed_run_writes_its_steps_again_and_once(tmp_path: Path) -> None:
    first = Desk(config(tmp_path))
    with first.log:
        for step in (1, 2, 3):
            first.step(step)
    again = Desk(config(tmp_path), resume_step=1)
    with again.log:
        for step in (2, 3):
            again.step(step)
    for path in (again.run.metrics, again.run.ledger, again.run.samples):
        assert [line["step"] for line in read_json_lines(path)] == [1, 2, 3]
