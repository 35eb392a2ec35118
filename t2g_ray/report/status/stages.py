"""The folder of a stage -> how many of its steps are done, and whether all of it is.

A GRPO run ends with report.json, SFT with a model, `t2g data generate` with a card. The steps of
the last are shards of the stage that asks its teacher at the moment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from t2g_ray.data.generate.pipeline import GenerateFiles
from t2g_ray.report.status.reading import JsonObject, json_object
from t2g_ray.run.folder import RunDir

Stage = Literal["GRPO", "SFT", "data generate"]
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """`num_steps` None: not known yet."""

    unit: str
    step: int
    num_steps: int | None
    is_finished: bool


def stage_of(settings: Settings) -> Stage | None:
    """The stage whose settings these are; None for those of something else."""
    if "run_dir" not in settings:
        return None
    marks: dict[str, Stage] = {
        "prompts_per_step": "GRPO",
        "batch_size": "SFT",
        "teacher": "data generate",
    }
    return next((stage for key, stage in marks.items() if key in settings), None)


def steps_of(stage: Stage, run: RunDir, settings: Settings, last: JsonObject) -> Steps:
    """`last`: the newest line of metrics, or nothing."""
    if stage == "data generate":
        return _shards(run)
    step = int(last.get("step") or 0)
    if stage == "GRPO":
        return Steps("step", step, settings.get("steps"), run.report_json.is_file())
    total = settings.get("steps") or _steps_of_epochs(settings, last)
    has_model = (run.model / "config.json").is_file()
    return Steps("step", step, total, has_model and total is not None and step >= total)


def _steps_of_epochs(settings: Settings, last: JsonObject) -> int | None:
    epoch, epochs = last.get("epoch"), settings.get("epochs")
    if not epoch or not epochs:
        return None
    # Rounded first: 3 x 0.1 / 0.3 is a little more than 1 in floating point.
    return math.ceil(round(float(epochs) * int(last["step"]) / float(epoch), 6))


def _shards(run: RunDir) -> Steps:
    files = GenerateFiles(path=run.path)
    newest = max(files.answers.glob("*.json"), key=_written_ns, default=None)
    found = {} if newest is None else json_object(newest)
    name = "" if newest is None else f" of the stage {newest.stem}"
    is_finished = _written_ns(files.card_json) >= _written_ns(files.config) > 0
    return Steps(f"shard{name}", int(found.get("answered", 0)), found.get("shards"), is_finished)


def _written_ns(path: Path) -> int:
    """0 where there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
