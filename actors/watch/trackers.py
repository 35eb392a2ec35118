"""The configuration of a stage -> its trackers, which run in the driver."""

from __future__ import annotations

from contextlib import AbstractContextManager

from t2g_ray.config import StageConfig
from t2g_ray.run.folder import RunDir
from t2g_ray.run.trackers.check import check_trackers
from t2g_ray.run.trackers.scrub import scrubbed
from t2g_ray.run.trackers.tracker import TrackedRun
from t2g_ray.run.trackers.tracking import tracking


def check(config: StageConfig) -> None:
    """Raises TrackerError where a tracker cannot be used as configured."""
    check_trackers(config.trackers, is_offline=config.tracking.offline)


def tracked(
    config: StageConfig, run: RunDir, resume_step: int | None
) -> AbstractContextManager[None]:
    """While entered, the trackers follow the files of the run. `resume_step` as in JsonLinesWriter.

    The driver follows files also where a rank of another node writes them, so that packages and
    logins are needed in one place.
    """
    folder = run.path.resolve()
    told = TrackedRun(
        folder=folder,
        project=config.tracking.project,
        name=config.tracking.name or folder.name,
        tags=config.tracking.tags,
        config=scrubbed(config.model_dump(mode="json")),
        is_offline=config.tracking.offline,
    )
    return tracking(config.trackers, told, resume_step=resume_step)
