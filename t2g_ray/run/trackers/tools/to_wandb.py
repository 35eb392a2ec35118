"""Steps of a run -> a run of Weights & Biases, online or in offline files of the run folder.

W&B is told what the run writes, and nothing of the machine, the command line or the code. It takes
back no step: what it has stays.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from t2g_ray.run.trackers.tools.wandb_files import newest_step
from t2g_ray.run.trackers.tracker import COLUMNS, Row, TrackedRun

INIT_S = 30
FINISH_S = 60
"""Seconds that W&B may take to send what is left; what is not sent then stays on disk."""


class WandbTracker:
    """Implements `Tracker`. `id` names the run also when it does not exist yet."""

    def __init__(self, run: TrackedRun, id: str) -> None:
        self.id, self._place = id, run.place("wandb")
        self._wandb: Any = importlib.import_module("wandb")
        try:
            self._run: Any = self._begin(run)
        except Exception:
            # A run that began by halves would be in use at the next try.
            self._wandb.teardown(exit_code=1)
            raise
        self._is_offline = bool(self._run.offline)

    def _begin(self, run: TrackedRun) -> Any:
        return self._wandb.init(
            project=run.project,
            name=run.name,
            id=self.id,
            tags=list(run.tags),
            config=dict(run.config),
            # W&B makes a folder "wandb" in it.
            dir=str(self._place.parent),
            mode="offline" if run.is_offline else None,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(
                allow_val_change=True,
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                finish_timeout=FINISH_S,
                host="",
                init_timeout=INIT_S,
                program="",
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def newest_step(self) -> int | None:
        """Asked for when the run is opened: of a server, or of the files of earlier starts."""
        if self._is_offline:
            return newest_step(self._place)
        return self._run.starting_step - 1 if self._run.resumed else None

    def take(self, step: int, numbers: Mapping[str, float], rows: Sequence[Row]) -> None:
        data: dict[str, Any] = dict(numbers)
        if rows:
            cells = [list(row) for row in rows]
            data["samples"] = self._wandb.Table(columns=list(COLUMNS), data=cells)
        # Without it W&B would keep the step in memory until the next one.
        self._run.log(data, step=step, commit=True)

    def close(self, *, is_whole: bool) -> None:
        try:
            self._run.finish(exit_code=0 if is_whole else 1)
        except Exception:
            self._wandb.teardown(exit_code=1)
            raise
