"""Steps of a run -> TensorBoard event files in the run folder.

A resumed run begins a file that tells TensorBoard to drop what earlier files say of later steps, so
nothing is left of steps that were taken again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2g_ray.run.trackers.tracker import COLUMNS, Row, TrackedRun


class TensorBoardTracker:
    """Implements `Tracker`."""

    id = ""

    def __init__(self, run: TrackedRun, step: int) -> None:
        """`step`: the last one that stays; -1 for none."""
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        place = run.place("tensorboard")
        is_new = not place.exists()
        self._writer: Any = SummaryWriter(str(place), purge_step=None if is_new else step + 1)
        if is_new:
            rows = [(key, str(value)) for key, value in run.config.items()]
            self._writer.add_text("config", _table(("key", "value"), rows), 0)

    def newest_step(self) -> int | None:
        return None

    def take(self, step: int, numbers: Mapping[str, float], rows: Sequence[Row]) -> None:
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step)
        if rows:
            self._writer.add_text("samples", _table(COLUMNS, rows), step)
        self._writer.flush()

    def close(self, *, is_whole: bool) -> None:
        self._writer.close()


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown, in which a cell is text and nothing else."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    for special in "\\`*_{}[]<>|":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.split())
