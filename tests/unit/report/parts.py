"""A run as its files tell it, and a pair of graphs that differ, for the tests of reports."""

from __future__ import annotations

from typing import Any

from t2g_ray.report.load import RunData

FOUND, MISSED = [1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]


def step(number: int, **values: float) -> dict[str, float | None]:
    line = {"step": number, "time_s": 2.0 * number, "tokens/prompt": 10, "tokens/trained": 30}
    return {**line, "tokens/generated": 40, "reward/mean": 1.0, **values}


def evaluation(number: int, f1: float, by_record: list[list[int]]) -> dict[str, Any]:
    return {
        "step": number,
        "split": "heldout",
        "f1/entities": f1,
        "f1/relations": f1 / 2,
        "by_record": by_record,
    }


def run_data(name: str, **parts: Any) -> RunData:
    evals = [evaluation(0, 0.5, [FOUND, MISSED]), evaluation(2, 0.8, [FOUND, FOUND])]
    given: dict[str, Any] = {
        "summary": {},
        "metrics": [step(1), step(2)],
        "evals": evals,
        "samples": [],
        "config_text": f"run_dir: runs/{name}\nsteps: 2\nlearner:\n  ranks: 1\n",
        "notes": (),
        **parts,
    }
    return RunData(name=name, **given)
