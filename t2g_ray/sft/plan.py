"""SFT configuration -> what the run will do, settled before any process starts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2g_ray.config import SftConfig, dump_config
from t2g_ray.model.policy import pin_model, resolve_model
from t2g_ray.model.source import lasting_name
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.load import load_split
from t2g_ray.prompts.meaning import meaning_of
from t2g_ray.records.outputs import check_folder
from t2g_ray.run.checkpoint import FoundCheckpoint
from t2g_ray.run.folder import RunDir, write_text
from t2g_ray.run.resume.meaning import Meaning
from t2g_ray.run.resume.start import check_meaning, enter, enter_at_nothing, find_start
from t2g_ray.types import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class SftPlan:
    """What a run will do, settled before any process starts. `config.run_dir` is absolute."""

    config: SftConfig
    records: Sequence[Record]
    heldout: Sequence[Record]
    """Empty where the run does not evaluate."""
    is_new: bool
    start: FoundCheckpoint | None
    """The checkpoint to continue from."""
    meaning: Meaning
    model: str
    """Folder that each rank reads the model from."""

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds all that the run makes."""
        return (
            self.start is not None
            and self.start.step == self.start.state["total_steps"]
            and _length(self.start.state["meaning"]["settings"]) == _length(self.meaning.settings)
            and (RunDir(self.config.run_dir).model / "config.json").is_file()
        )


def plan_sft(config: SftConfig) -> SftPlan:
    """Read the records, enter the run folder and find where to continue.

    Raises ValueError for what is wrong with the configuration, the records or the run folder, and
    ResumeError where the folder holds another run. A finished run is left as it is.
    """
    records = load_split(config, "train")
    heldout = load_split(config, "heldout") if config.eval.every else []
    run_dir = RunDir(config.run_dir.resolve())
    # Workers may run in other folders.
    model = str(Path(config.model).resolve()) if Path(config.model).is_dir() else config.model
    config = config.model_copy(update={"run_dir": run_dir.path, "model": model})
    check_folder("run_dir", run_dir.path, (model, config.data.train, config.data.heldout))
    config = pin_model(config, run_dir)
    is_new = not run_dir.prepare(resume=config.resume == "auto")
    try:
        return _enter(config, run_dir, records, heldout, is_new=is_new)
    except BaseException:
        # Nothing was trained: the corrected command must find the folder as empty as it was.
        if is_new:
            shutil.rmtree(run_dir.path)
        raise


def _enter(
    config: SftConfig,
    run_dir: RunDir,
    records: Sequence[Record],
    heldout: Sequence[Record],
    *,
    is_new: bool,
) -> SftPlan:
    start = None if is_new else find_start(run_dir)
    if start is None:
        write_text(run_dir.config, dump_config(config))
        enter_at_nothing(run_dir)
    model = resolve_model(config, run_dir)
    meaning = meaning_of(
        config,
        tokenizer=load_tokenizer(model),
        model=lasting_name(config.model, model),
        train=records,
        heldout={"heldout": heldout},
    )
    plan = SftPlan(
        config=config,
        records=records,
        heldout=heldout,
        is_new=is_new,
        start=start,
        meaning=meaning,
        model=model,
    )
    if start is not None:
        told = check_meaning(run_dir, start, meaning)
        if not plan.is_finished:
            write_text(run_dir.config, dump_config(config))
            enter(run_dir, start, told)
    return plan


def _length(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    return settings["steps"], settings["epochs"]


def num_steps(config: SftConfig, num_samples: int) -> int:
    """Optimiser steps of the run: as given, else enough for the epochs."""
    return config.steps or math.ceil(config.epochs * num_samples / config.batch_size)
