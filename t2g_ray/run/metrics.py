"""Numbers of a step -> one line of metrics.jsonl; and throughput.

Invariant: each line is valid JSON and steps only grow. A value that is not finite is written as
null and counted beside it: {"loss": null, "nonfinite/loss": 1}, so that a diverged step stays
visible to people and readable to programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from t2g_ray.run.jsonlines import JsonLinesWriter, last_json_line, read_json_lines

MetricsLine = dict[str, float | None]


class MetricsSink(Protocol):
    """Where the lines of a run go."""

    def write(self, line: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class MetricsWriter:
    """Appends lines to metrics.jsonl. `resume_step` as in JsonLinesWriter."""

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        self._lines = JsonLinesWriter(path, resume_step=resume_step)
        self._last_step = max((line["step"] for line in read_json_lines(path)), default=-1)

    def write(self, line: Mapping[str, float]) -> None:
        """Write one step. ValueError when its "step" is not above the last one."""
        if line["step"] <= self._last_step:
            raise ValueError(
                f"step must be above {self._last_step}, the last line of "
                f"{self._lines.path.name}, found {line['step']}"
            )
        self._lines.append(_finite(line))
        self._last_step = int(line["step"])

    def close(self) -> None:
        self._lines.close()


def read_metrics(path: Path) -> list[MetricsLine]:
    """All complete lines, in order of steps."""
    return list(read_json_lines(path))


def last_time_s(path: Path) -> float:
    """Seconds of the run at its newest step; 0 before the first one."""
    line = last_json_line(path)
    return float(line["time_s"]) if line else 0.0


def _finite(line: Mapping[str, float]) -> MetricsLine:
    bad = [key for key, value in line.items() if not math.isfinite(value)]
    return {**line, **dict.fromkeys(bad), **{f"nonfinite/{key}": 1 for key in bad}}


def throughput_metrics(
    *, prompt_tokens: int, generated_tokens: int, wall_s: float, num_devices: int
) -> dict[str, float]:
    """The throughput keys of a step from the token counts of its trained samples.

    `prompt_tokens` counts the prompt once for each sample. `wall_s` runs from the end of the
    step before to the end of this one, so that all waiting is included. `num_devices` counts
    samplers and learners together (devices of the run, each once).
    """
    if wall_s <= 0 or num_devices < 1:
        raise ValueError(
            "wall_s must be above 0 and num_devices at least 1, "
            f"found wall_s={wall_s} and num_devices={num_devices}"
        )
    tokens_per_s = (prompt_tokens + generated_tokens) / wall_s
    return {
        "throughput/tokens_per_s": tokens_per_s,
        "throughput/generated_tokens_per_s": generated_tokens / wall_s,
        "throughput/tokens_per_s_per_device": tokens_per_s / num_devices,
    }
