"""A run folder -> RunStatus: all that its files say of the run at this moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from t2g_ray.data.generate.pipeline import GenerateFiles
from t2g_ray.report.load import of_heldout
from t2g_ray.report.status.figures import (
    Lines,
    Pace,
    Trend,
    bottleneck_of,
    mean_of,
    pace_of,
    trend_of,
    troubles_of,
)
from t2g_ray.report.status.holder import holder_of
from t2g_ray.report.status.reading import JsonObject, age_s, json_object, newest_lines
from t2g_ray.report.status.stages import Settings, Stage, Steps, stage_of, steps_of
from t2g_ray.report.status.states import State, verdict_of
from t2g_ray.run.checkpoint import MARKER, step_of
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import Answer, Bounds, read_answer, read_request

Value = TypeVar("Value")
TRENDS = ("reward/mean", "f1/entities", "f1/relations", "loss")
SCORES = ("f1/entities", "f1/relations", "json_valid_rate", "loss")
MEANS = ("staleness/mean", "staleness/max", "idle/learner", "idle/samplers")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Rollout actors: how many work, how many were asked for, and what the run says of that."""

    working: int
    asked: int | None
    """None: the run chooses the number by itself."""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint."""

    step: int
    age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How a run stands. None and empty: its files do not say."""

    folder: str
    stage: Stage
    state: State
    reason: str
    unit: str
    """What `step` counts."""
    step: int
    steps: int | None
    elapsed_s: float | None
    sign_s: float | None
    """Seconds since the run wrote its newest line."""
    time_left_s: float | None
    pace: Pace
    trends: Mapping[str, Trend]
    means: Mapping[str, float]
    bottleneck: str
    fleet: Fleet | None
    checkpoint: Kept | None
    evaluation: Mapping[str, Any] | None
    troubles: Sequence[str]
    last_words: Sequence[str]
    """What a run said that failed."""


def read_status(folder: Path) -> RunStatus:
    """Look at the folder of a run, whatever became of it; nothing is written.

    Raises ValueError for a folder that no run made.
    """
    run, now_s = RunDir(folder), time.time()
    settings, stage = _settings_of(run)
    lines = newest_lines(run.metrics)
    steps = steps_of(stage, run, settings, lines[-1] if lines else {})
    pace, failure = pace_of(lines), json_object(run.failure)
    sign_s = _newest_sign(run, stage, now_s)
    verdict = verdict_of(
        is_finished=steps.is_finished,
        holder=holder_of(folder),
        failure=failure,
        sign_s=sign_s,
        step_s=pace.step_s,
    )
    trends = {key: trend_of(lines, key) for key in TRENDS}
    means = {key: mean_of(lines, key) for key in MEANS}
    is_grpo = stage == "GRPO"
    return RunStatus(
        folder=str(folder),
        stage=stage,
        state=verdict.state,
        reason=verdict.reason,
        unit=steps.unit,
        step=steps.step,
        steps=steps.num_steps,
        elapsed_s=lines[-1].get("time_s") if lines else None,
        sign_s=sign_s,
        time_left_s=_time_left(steps, pace) if verdict.state == "live" else None,
        pace=pace,
        trends={key: trend for key, trend in trends.items() if trend is not None},
        means={key: value for key, value in means.items() if value is not None},
        bottleneck=bottleneck_of(lines) if is_grpo else "",
        fleet=_fleet(run, settings) if is_grpo else None,
        checkpoint=_newest_checkpoint(run, now_s),
        evaluation=_evaluation(newest_lines(run.evals)),
        troubles=troubles_of(lines),
        last_words=tuple(failure.get("notes", ())) if verdict.state == "failed" else (),
    )


def _settings_of(run: RunDir) -> tuple[Settings, Stage]:
    try:
        settings = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(
            f"RUN must be the folder of a run, found no {run.config.name} in {run.path}"
            f"{_runs_inside(run.path)}"
        ) from None
    except yaml.YAMLError:
        settings = None
    stage = stage_of(settings) if isinstance(settings, dict) else None
    if stage is None or not isinstance(settings, dict):
        raise ValueError(
            f"RUN must be the folder of a run, found a {run.config.name} in {run.path} that is of "
            "no stage; name a folder that t2g sft, t2g grpo or t2g data generate made"
        )
    return settings, stage


def _runs_inside(folder: Path) -> str:
    """What to do, in words: a demo's folder holds two runs."""
    inside = sorted(path.parent.name for path in folder.glob("*/config.yaml"))
    if not inside:
        return "; name a folder that t2g sft, t2g grpo or t2g data generate made"
    return f"; there are runs inside it: {', '.join(inside[:5])}"


def _newest_sign(run: RunDir, stage: Stage, now_s: float) -> float | None:
    files = [run.metrics, run.evals, run.config, run.checkpoints, run.report_json, run.failure]
    if stage == "data generate":
        answers = GenerateFiles(path=run.path).answers
        files += [answers, *answers.glob("*")]
    ages = [age for path in files if (age := age_s(path, now_s)) is not None]
    return min(ages, default=None)


def _time_left(steps: Steps, pace: Pace) -> float | None:
    if steps.num_steps is None or pace.step_s is None:
        return None
    return max(0, steps.num_steps - steps.step) * pace.step_s


def _fleet(run: RunDir, settings: Settings) -> Fleet:
    started_with = int(settings.get("rollout", {}).get("actors", 0))
    request = _whole(read_request, run.scale_request)
    answer = _whole(read_answer, run.rollouts_json) or Answer(rollouts=started_with)
    asked = started_with if request is None else request
    # The run says why it cannot follow, and, where it chooses by itself, why it chose.
    words = {"failure": answer.failure, "change": answer.change, "fixed": answer.fixed}
    told = [f"{name}: {value}" for name, value in words.items() if value]
    return Fleet(answer.rollouts, None if isinstance(asked, Bounds) else asked, "; ".join(told))


def _whole(read: Callable[[Path], Value], path: Path) -> Value | None:
    """None for a file that is damaged or gone."""
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _newest_checkpoint(run: RunDir, now_s: float) -> Kept | None:
    found = [(step_of(path.parent.name), path) for path in run.checkpoints.glob(f"*/{MARKER}")]
    whole = [(step, path) for step, path in found if step is not None]
    if not whole:
        return None
    step, marker = max(whole)
    return Kept(step, age_s(marker, now_s))


def _evaluation(lines: Lines) -> JsonObject | None:
    held_out = of_heldout(lines)
    if not held_out:
        return None
    newest = held_out[-1]
    return {key: newest[key] for key in ("step", *SCORES) if key in newest}
