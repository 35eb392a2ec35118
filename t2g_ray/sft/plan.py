"""SFT configuration -> what the run will do, settled before any process starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t2g_ray.config import SftConfig, dump_config
from t2g_ray.prompts.load import load_split
from t2g_ray.run import checkpoint
from t2g_ray.run.folder import RunDir, write_text
from t2g_ray.types import Record

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftPlan:
    """What a run will do, settled before any process starts. `config.run_dir` is absolute."""

    config: SftConfig
    records: Sequence[Record]
    heldout: Sequence[Record]
    """Empty where the run does not evaluate."""
    is_new: bool
    start: checkpoint.FoundCheckpoint | None
    """The checkpoint to continue from."""

    @property
    def order_key(self) -> dict[str, int]:
        """What decides the order of records: a resumed run must have the same."""
        return {
            "records": len(self.records),
            "data_seed": self.config.data_seed,
            "batch_size": self.config.batch_size,
        }


def plan_sft(config: SftConfig) -> SftPlan:
    """Read the records, enter the run folder and find where to continue.

    Raises ValueError for what is wrong with the configuration, the records or the run folder.
    """
    records = load_split(config, "train")
    heldout = load_split(config, "heldout") if config.eval.every else []
    run_dir = RunDir(config.run_dir.resolve())
    # Workers may run in other folders.
    model = str(Path(config.model).resolve()) if Path(config.model).is_dir() else config.model
    config = config.model_copy(update={"run_dir": run_dir.path, "model": model})
    is_new = not run_dir.prepare(resume=config.resume == "auto")
    start = checkpoint.find_checkpoint(run_dir.checkpoints)
    plan = SftPlan(config=config, records=records, heldout=heldout, is_new=is_new, start=start)
    if start is not None:
        for reason in start.rejected:
            _log.warning("resuming from %s: %s", start.path.name, reason)
        if start.state["order_key"] != plan.order_key:
            raise ValueError(
                f"a resumed run must keep the order of its records, {start.path} has "
                f"{start.state['order_key']}, found {plan.order_key}; restore these settings or "
                "give another run_dir"
            )
        checkpoint.discard_after(run_dir.checkpoints, start.step)
    write_text(run_dir.config, dump_config(config))
    return plan


def num_steps(config: SftConfig, num_samples: int) -> int:
    """Optimiser steps of the run: as given, else enough for the epochs."""
    return config.steps or math.ceil(config.epochs * num_samples / config.batch_size)
