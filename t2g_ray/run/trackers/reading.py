"""The growing files of a run -> its steps, each once and whole, in order.

The files are the queue between a run and its trackers: a tracker that is slow, hangs or fails keeps
nothing in memory, delays no step, and finds everything where it was once it works again. Invariant:
a step is given out when nothing more is written about it, which a line of a later step shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import JsonLine
from t2g_ray.run.trackers.tracker import Cell, Row

_NO_NUMBERS = ("step", "policy_version", "split")


@dataclass(slots=True)
class StepRecord:
    """All that the files say about a step."""

    step: int
    numbers: dict[str, float] = field(default_factory=dict)
    """Keys of metrics.jsonl, and those of evals.jsonl as eval/<split>/<key>."""
    rows: list[Row] = field(default_factory=list)


class RunReader:
    """Reads on in metrics.jsonl, evals.jsonl and samples.jsonl of one run."""

    def __init__(self, run: RunDir) -> None:
        self._metrics, self._evals = _Tail(run.metrics), _Tail(run.evals)
        self._samples = _Tail(run.samples)
        self._records: dict[int, StepRecord] = {}
        self._newest = 0

    def read(self, *, is_over: bool) -> list[StepRecord]:
        """The steps that became whole since the last call; all that are left with `is_over`."""
        # In this order: an evaluation is written before the metrics of any later step.
        for line in self._metrics.lines():
            self._newest = max(self._newest, line["step"])
            self._record(line).numbers.update(_numbers(line, ""))
        for line in self._evals.lines():
            numbers = {k: v for k, v in line.items() if k not in _NO_NUMBERS}
            self._record(line).numbers.update(_numbers(numbers, f"eval/{line['split']}/"))
        for line in self._samples.lines():
            self._record(line).rows.append(_row(line))
        done = sorted(step for step in self._records if is_over or step < self._newest)
        return [self._records.pop(step) for step in done]

    def _record(self, line: JsonLine) -> StepRecord:
        return self._records.setdefault(line["step"], StepRecord(line["step"]))


class _Tail:
    """The complete lines of a file that were not read yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[JsonLine]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")
        self._offset += len(whole[0]) + len(whole[1])
        return [json.loads(line) for line in whole[0].split(b"\n") if line.strip()]


def _numbers(line: Mapping[str, object], prefix: str) -> dict[str, float]:
    """The numbers of a line; a null is a number that was not finite."""
    return {
        prefix + key: math.nan if value is None else float(value)
        for key, value in line.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def _row(line: JsonLine) -> Row:
    def graph(key: str) -> Cell:
        return None if line.get(key) is None else json.dumps(line[key], ensure_ascii=False)

    return (
        line["step"],
        line["split"],
        line.get("prompt_index"),
        line.get("text"),
        line.get("completion"),
        graph("gold"),
        graph("predicted"),
        line.get("reward"),
    )
