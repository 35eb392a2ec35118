"""A run folder: the name of every file that a run leaves, and which run may write into it.

Invariant: a run never writes over another one. A folder that holds anything is entered only to
resume the run that made it, and JSON files are replaced whole or not at all.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = ".lock"
"""File of a run folder that its process holds, see `resume.lock`."""
STAGE = ".stage"
"""File of a run folder that is the stage of a URL, see `storage.stage`."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """The files of one run. Example: RunDir(Path("runs/demo")).metrics."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration (YAML); its presence marks the folder as a run."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """A line a step, see `grpo.metric_keys`."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Texts with gold graph, completion, predicted graph and reward."""
        return self.path / "samples.jsonl"

    @property
    def evals(self) -> Path:
        """A line an evaluation."""
        return self.path / "evals.jsonl"

    @property
    def trace(self) -> Path:
        """Spans of all actors in the Chrome trace format."""
        return self.path / "trace.json"

    @property
    def profile(self) -> Path:
        """Profiles of chosen steps, a file an actor."""
        return self.path / "profile"

    @property
    def ledger(self) -> Path:
        """Which prompts were consumed."""
        return self.path / "ledger.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint, see `checkpoint`."""
        return self.path / "checkpoints"

    @property
    def initial_model(self) -> Path:
        """The untrained tiny policy, where the run starts from it."""
        return self.path / "initial_model"

    @property
    def model(self) -> Path:
        """The trained model in Hugging Face format."""
        return self.path / "model"

    @property
    def report_html(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def report_json(self) -> Path:
        """The result for programs; its presence marks the run as finished."""
        return self.path / "report.json"

    @property
    def resumes(self) -> Path:
        """A line a resume: its step, and what was not as it was."""
        return self.path / "resumes.jsonl"

    @property
    def failure(self) -> Path:
        """The error that ended the run, see `resume.ending`; not there while nothing ended it."""
        return self.path / "failure.json"

    @property
    def scale_request(self) -> Path:
        """How many rollout actors `t2g scale` has asked for."""
        return self.path / "scale.json"

    @property
    def trackers(self) -> Path:
        """How far each tracker is, and the data of those that keep it here."""
        return self.path / "trackers"

    @property
    def rollouts_json(self) -> Path:
        """How many rollout actors work for the run."""
        return self.path / "rollouts.json"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint taken after `step`."""
        return self.checkpoints / checkpoint_name(step)

    def prepare(self, *, resume: bool) -> bool:
        """Make the folder ready to write; True when there is a run to continue.

        A missing or empty folder starts a new run also with `resume`, so that one command line
        serves the first start and every restart. ValueError for a folder that holds a run when
        `resume` is off, and for one that holds other things.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"run_dir must be a folder, found a file at {self.path}")
        self.path.mkdir(parents=True, exist_ok=True)
        found = sorted(
            entry.name for entry in self.path.iterdir() if entry.name not in (LOCK, STAGE)
        )
        if not found:
            return False
        if not self.config.exists():
            raise ValueError(
                f"run_dir must be empty or hold a run (config.yaml), found {', '.join(found[:5])} "
                f"in {self.path}; give another run_dir"
            )
        if not resume:
            state = "a finished run" if self.report_json.exists() else "an unfinished run"
            raise ValueError(
                f"run_dir must be empty for a new run, found {state} in {self.path}; "
                "give another run_dir, or resume=auto to continue it"
            )
        return True


def checkpoint_name(step: int) -> str:
    """Example: 12 -> "step_000012". Names sort like their steps below a million."""
    if step < 0:
        raise ValueError(f"step must be at least 0, found {step}")
    return f"step_{step:06d}"


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON: readers see the old file or the new one, whole.

    ValueError when `value` holds a number that is not finite.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8 in one move, on disk before this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # without it a power cut can undo the rename
    finally:
        os.close(folder)
