"""Runs that verify nothing, train nothing or learn nothing are found; slow ones are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.selftest.checks import runs
from benchmarks.selftest.running import CheckFailed
from benchmarks.selftest.settings import Hardware, selftest_config
from t2g_ray.config import GrpoConfig, SftConfig
from t2g_ray.run.folder import RunDir

LINE = {
    "step": 5.0,
    "time/step_s": 1.0,
    "time/generate_s": 0.5,
    "time/train_s": 0.4,
    "time/sync_s": 0.1,
    "idle/learner": 0.5,
    "idle/samplers": 0.25,
    "staleness/mean": 1.0,
    "groups/trained": 4.0,
    "tokens/generated": 700.0,
    "sync/verified": 1.0,
}


def config(tmp_path: Path, **changes: Any) -> GrpoConfig:
    hardware = Hardware(device="cpu")
    return selftest_config("demo", hardware, tmp_path, max_staleness=1, **changes)


def loop(
    monkeypatch: pytest.MonkeyPatch, settings: GrpoConfig, **changes: float | None
) -> dict[str, float]:
    lines = [LINE | changes, LINE]
    monkeypatch.setattr(runs, "throughput_run", lambda *_, **__: lines)
    return {figure.name: figure.value for figure in runs.loop(settings, steps=2)}


def test_a_run_that_holds_passes_with_its_speed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = loop(monkeypatch, config(tmp_path))
    assert (figures["tokens_per_s"], figures["learner_idle"]) == (700, 0.5)


SPANS = (
    ("leave", 0, 1),
    ("wake", 1, 2),
    ("generate", 2, 5),
    ("sleep", 5, 7),
    ("come back", 7, 8),
    ("train", 8, 9),
)


def turns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spans: Sequence[tuple[str, int, int]]
) -> dict[str, float]:
    monkeypatch.setattr(runs, "throughput_run", lambda *_, **__: [LINE | {"staleness/mean": 0.0}])
    settings = selftest_config("demo", Hardware(device="cpu"), tmp_path, colocate="time")
    trace = RunDir(Path(settings.run_dir) / "sync").trace
    trace.parent.mkdir(parents=True)
    moves = [
        {"name": name, "ts": 1e6 * start, "dur": 1e6 * (end - start)} for name, start, end in spans
    ]
    trace.write_text(json.dumps(moves))
    return {figure.name: figure.value for figure in runs.turns(settings, steps=1)}


def test_a_run_in_turns_passes_and_tells_how_long_sleep_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = turns(monkeypatch, tmp_path, SPANS)
    assert (figures["sleep_s"], figures["wake_s"]) == (2.0, 1.0)


def test_an_engine_that_never_sleeps_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="found no sleep"):
        turns(monkeypatch, tmp_path, [span for span in SPANS if span[0] != "sleep"])


def test_an_engine_that_writes_while_the_learner_trains_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CheckFailed, match="found both at once"):
        turns(monkeypatch, tmp_path, [*SPANS, ("generate", 8, 10)])


def test_a_slow_run_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = {"time/step_s": 900.0, "idle/learner": 1.0}
    assert loop(monkeypatch, config(tmp_path), **slow)["tokens_per_s"] < 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sync/verified": 0.0}, r"every sync must be verified, found none at steps \[5"),
        ({"groups/trained": 1.0}, "each step must train 4 groups, found 2.5"),
        ({"staleness/mean": 3.0}, "at most 1 versions old, found 2"),
    ],
)
def test_a_run_without_proof_training_or_bound_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, float], words: str
) -> None:
    with pytest.raises(CheckFailed, match=words):
        loop(monkeypatch, config(tmp_path), **changes)


def test_a_step_whose_time_is_not_finite_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="must have a finite time/step_s"):
        loop(monkeypatch, config(tmp_path), **{"time/step_s": None})


@pytest.mark.parametrize(
    ("losses", "is_fine"), [((3.0, 2.0), True), ((2.0, 2.0), False), ((3.0,), False)]
)
def test_a_supervised_stage_whose_loss_does_not_fall_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, losses: tuple[float, ...], is_fine: bool
) -> None:
    lines = [{"step": float(i), "loss": loss} for i, loss in enumerate(losses)]
    monkeypatch.setattr(runs, "read_metrics", lambda path: lines)
    monkeypatch.setattr("actors.sft.run_sft", lambda settings: RunDir(tmp_path))
    settings = SftConfig(run_dir=str(tmp_path), steps=2)
    if is_fine:
        assert [figure.value for figure in runs.sft(settings)] == [3.0, 2.0]
        return
    with pytest.raises(CheckFailed, match="the loss must fall over 2 steps"):
        runs.sft(settings)
