"""A run and the names of trackers -> trackers that follow the run for as long as a block runs."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import cut_after_step
from t2g_ray.run.resume.start import tell
from t2g_ray.run.stopping import RunStopped
from t2g_ray.run.trackers.follow import LOOK_S, Follower
from t2g_ray.run.trackers.state import TrackerState, read_state
from t2g_ray.run.trackers.tools.to_mlflow import MlflowTracker
from t2g_ray.run.trackers.tools.to_tensorboard import TensorBoardTracker
from t2g_ray.run.trackers.tools.to_trackio import TrackioTracker
from t2g_ray.run.trackers.tools.to_wandb import WandbTracker
from t2g_ray.run.trackers.tracker import TrackedRun, Tracker

DRAIN_S = 90.0
"""Seconds that all trackers together may take at the end of a run."""

OPENERS: Mapping[str, Callable[[TrackedRun, TrackerState], Tracker]] = {
    "wandb": lambda run, state: WandbTracker(run, state.id),
    "mlflow": lambda run, state: MlflowTracker(run, state.id),
    "trackio": lambda run, state: TrackioTracker(run, state.id),
    "tensorboard": lambda run, state: TensorBoardTracker(run, state.step),
}
_NAMED_HERE = ("wandb", "trackio")
"""Trackers whose runs are named by who begins them."""
_TAKES_BACK = ("tensorboard",)
"""Trackers that drop steps which a resumed run takes again."""


@contextmanager
def tracking(
    names: Sequence[str], tracked: TrackedRun, *, resume_step: int | None, drain_s: float = DRAIN_S
) -> Iterator[None]:
    """Let the trackers follow the files of `tracked.folder` while the block runs.

    `resume_step` as in JsonLinesWriter. At the end they get `drain_s` for what is left.
    """
    if not names:
        yield
        return
    run = RunDir(tracked.folder)
    if resume_step is not None:
        # As their writers will: a follower must not see lines that are about to go.
        for path in (run.metrics, run.evals, run.samples):
            cut_after_step(path, resume_step)
    followers = [_follower(name, tracked, run, resume_step) for name in names]
    is_over = threading.Event()
    watch = threading.Thread(target=_watch, args=(followers, is_over), name="trackers", daemon=True)
    watch.start()
    for follower in followers:
        follower.start()
    is_whole = False
    try:
        yield
        is_whole = True
    except RunStopped:
        is_whole = True
        raise
    finally:
        end_s = time.monotonic() + drain_s
        for follower in followers:
            follower.ask_to_finish(is_whole=is_whole)
        for follower in followers:
            follower.wait(end_s)
        is_over.set()


def _follower(name: str, tracked: TrackedRun, run: RunDir, resume_step: int | None) -> Follower:
    state = read_state(run, name) or TrackerState(
        id=uuid.uuid4().hex[:8] if name in _NAMED_HERE else ""
    )
    if resume_step is not None and state.step > resume_step:
        if name in _TAKES_BACK:
            step, rows_step = resume_step, min(state.rows_step, resume_step)
            state = replace(state, step=step, rows_step=rows_step)
        else:
            tell(
                f"{name} has steps up to {state.step} and takes none back: of steps "
                f"{resume_step + 1} to {state.step}, which are taken again, it keeps the first"
            )
    state.write(run, name)
    return Follower(name, run, lambda state: OPENERS[name](tracked, state), state)


def _watch(followers: Sequence[Follower], is_over: threading.Event) -> None:
    while not is_over.wait(LOOK_S):
        for follower in followers:
            follower.look()
