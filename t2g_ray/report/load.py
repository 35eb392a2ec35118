"""Files of a run folder -> RunData, whatever is there.

Invariant: a missing or damaged file becomes a note on the page, never an error, because the page
is wanted most when a run went wrong. Memory is bounded: of the samples only the newest are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from t2g_ray.graph import Graph
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import MetricsLine, read_metrics

Value = TypeVar("Value")
Line = TypeVar("Line", bound=Mapping[str, Any])
MAX_SAMPLES_A_SPLIT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleLine:
    """A line of samples.jsonl. `predicted` is None when the completion holds no graph."""

    step: int
    split: str
    text: str
    gold: Graph
    predicted: Graph | None
    completion: str
    parse: str
    reward: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """All that the page shows. `samples` are those of the newest step of each split."""

    name: str
    summary: dict[str, Any]
    metrics: list[MetricsLine]
    evals: list[dict[str, Any]]
    samples: list[SampleLine]
    config_text: str
    notes: tuple[str, ...]


def load_run(run_dir: RunDir) -> RunData:
    """Read a run folder; notes say what is missing or cannot be read.

    ValueError when the folder does not exist.
    """
    if not run_dir.path.is_dir():
        raise ValueError(f"run_dir must be a folder, found nothing at {run_dir.path}")
    notes: list[str] = []

    def read(path: Path, reader: Callable[[Path], Value], empty: Value) -> Value:
        if not path.exists():
            notes.append(f"{path.name} is not there yet")
            return empty
        try:
            return reader(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            notes.append(f"{path.name} cannot be read: {error}")
            return empty

    return RunData(
        name=run_dir.path.resolve().name,
        summary=read(run_dir.report_json, _read_object, {}),
        metrics=read(run_dir.metrics, read_metrics, []),
        evals=read(run_dir.evals, lambda path: list(read_json_lines(path)), []),
        samples=read(run_dir.samples, _newest_samples, []),
        config_text=read(run_dir.config, lambda path: path.read_text("utf-8"), ""),
        notes=tuple(notes),
    )


def of_heldout(evals: Iterable[Line]) -> list[Line]:
    """The evaluations on the held-out records; a line without a split is one of them."""
    return [line for line in evals if line.get("split", "heldout") == "heldout"]


def _read_object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text("utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"it must be a JSON object, found {type(value).__name__}")
    return value


def _newest_samples(path: Path) -> list[SampleLine]:
    newest: dict[str, list[dict[str, Any]]] = {}
    for line in read_json_lines(path):
        kept = newest.setdefault(line["split"], [])
        if kept and line["step"] > kept[0]["step"]:
            kept.clear()
        if len(kept) < MAX_SAMPLES_A_SPLIT:
            kept.append(line)
    return [_sample(line) for lines in newest.values() for line in lines]


def _sample(line: Mapping[str, Any]) -> SampleLine:
    predicted = line["predicted"]
    return SampleLine(
        step=line["step"],
        split=line["split"],
        text=line["text"],
        gold=Graph.from_dict(line["gold"]),
        predicted=None if predicted is None else Graph.from_dict(predicted),
        completion=line["completion"],
        parse=line["parse"],
        reward=float(line["reward"]),
        parts=line["parts"],
    )
