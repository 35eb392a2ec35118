"""What a tracker is told of a run, and what it must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from t2g_ray.run.folder import RunDir

COLUMNS = ("step", "split", "prompt", "text", "completion", "gold", "predicted", "reward")
"""Of a table of samples. Graphs are JSON; `predicted` is empty where the answer has no graph."""

Cell = str | float | None
Row = tuple[Cell, ...]
"""A completion, with a cell for each of COLUMNS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """What a tracker is told when it opens a run."""

    folder: Path
    """The run folder."""
    project: str
    name: str
    tags: Sequence[str]
    config: Mapping[str, Cell | bool]
    """Dotted keys, without secrets."""
    is_offline: bool
    """Whether nothing may leave this machine."""

    def place(self, tracker: str) -> Path:
        """The folder of a tracker that keeps its data in the run folder."""
        return RunDir(self.folder).trackers / tracker


class Tracker(Protocol):
    """A run that is open in a tracker. Every method raises what its package raises."""

    id: str
    """By which the run is opened again; empty where the run folder says enough."""

    def newest_step(self) -> int | None:
        """The last step that the tracker holds; None where it cannot say."""

    def take(self, step: int, numbers: Mapping[str, float], rows: Sequence[Row]) -> None:
        """Take all numbers of a step, which NaN stands for where they were not finite, and the
        completions that came up to it, if any. Steps only grow.
        """

    def close(self, *, is_whole: bool) -> None:
        """Hand over what is left. `is_whole`: the run came to its end, or was asked to stop."""
