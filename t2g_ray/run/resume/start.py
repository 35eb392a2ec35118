"""A run folder and the meaning of its run -> where to go on, settled before anything is changed.

Invariant: nothing is cut, removed or started before the checkpoint was found whole and of the
same meaning; whatever is passed over or changed is told.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable

from t2g_ray.run.checkpoint import FoundCheckpoint, discard_after, find_checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import last_json_line
from t2g_ray.run.resume.meaning import Meaning, ResumeError, changes


def find_start(run: RunDir) -> FoundCheckpoint | None:
    """The checkpoint to go on from; None where no step was taken yet.

    Raises CheckpointError where all are damaged, and ResumeError where steps were taken and no
    checkpoint is there.
    """
    found = find_checkpoint(run.checkpoints)
    last_step = _last_step(run)
    if found is None and last_step:
        raise ResumeError(
            f"a resumed run must have a checkpoint, found none and metrics up to step {last_step} "
            f"in {run.path}: it ended before its first one, or they were removed; give another "
            "run_dir, or remove this one to start at step 0"
        )
    return found


def is_at_end(run: RunDir, num_steps: int) -> bool:
    """Whether the run came to the end that is wanted now, and wrote its report."""
    if not run.report_json.is_file():
        return False
    return bool(json.loads(run.report_json.read_text(encoding="utf-8"))["steps"] == num_steps)


def resume_step(is_new: bool, start: FoundCheckpoint | None) -> int | None:
    """The last step whose lines stay: -1 for none of a start that took no step, None in a new run.

    As `JsonLinesWriter` takes it.
    """
    if start is not None:
        return start.step
    return None if is_new else -1


def check_meaning(run: RunDir, start: FoundCheckpoint, own: Meaning) -> list[str]:
    """What is to be told: what was passed over, and what is not as it was.

    Raises ResumeError where the checkpoint belongs to another run.
    """
    changed = changes(start.state.get("meaning"), own, start.path)
    if (written := start.state.get("step")) != start.step:
        raise ResumeError(
            f"a checkpoint must keep its name, {start.path} was written at step {written}; rename "
            "it back, or give another run_dir"
        )
    told = [f"left out: {reason}" for reason in start.rejected]
    told += [f"changed on resume: {line}" for line in changed]
    if (last_step := _last_step(run)) < start.step:
        told.append(
            f"{run.metrics.name} ends at step {last_step}: the lines up to step {start.step} are "
            "missing"
        )
    return told


def _last_step(run: RunDir) -> int:
    line = last_json_line(run.metrics)
    return int(line["step"]) if line else 0


def check_steps(start: FoundCheckpoint, num_steps: int) -> None:
    """A checkpoint cannot be untrained: raises ResumeError where it lies past the run's end."""
    if start.step > num_steps:
        raise ResumeError(
            f"a resumed run must have at least the {start.step} steps of {start.path}, found "
            f"{num_steps}; raise steps, or remove the checkpoints that come later than you want"
        )


def enter(run: RunDir, start: FoundCheckpoint, told: Iterable[str]) -> None:
    """Make the folder that of a run which stands at `start`, and tell it on standard error."""
    lines = list(told)
    for line in (*lines, f"resumed at step {start.step} from {start.path}"):
        tell(line)
    # config.yaml has the settings of the newest start only.
    with run.resumes.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": start.step, "told": lines}) + "\n")
    # Later checkpoints were found damaged; kept, they would count as the newest.
    discard_after(run.checkpoints, start.step)
    run.report_json.unlink(missing_ok=True)


def enter_at_nothing(run: RunDir) -> None:
    """Make the folder that of a run which took no step yet."""
    # Made from the seed of an earlier start, which nothing binds this one to.
    shutil.rmtree(run.initial_model, ignore_errors=True)


def tell(line: str) -> None:
    """One line for the person who started the run."""
    print(line, file=sys.stderr, flush=True)
