"""Several runs -> one HTML page: overlaid curves, figures and settings side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2g_ray.report.headline import Cell
from t2g_ray.report.load import RunData
from t2g_ray.report.overlay import overlaid_figures
from t2g_ray.report.runs import WINDOW_STEPS
from t2g_ray.report.template import fill

LABELS = {
    "f1/mean": "Mean of both F1",
    "f1/entities": "Entity F1, exact",
    "f1/relations": "Relation F1, exact",
    "json_valid_rate": "Valid JSON",
    "loss": "Loss, nats a token",
    "reward/mean": "Reward",
}
COSTS = {
    "steps": "Steps",
    "wall_s": "Wall-clock of training, s",
    "generated_tokens": "Tokens generated",
    "trained_tokens": "Tokens trained",
    "tokens_per_s": "Tokens/s, prompts and trained",
}
PERCENT = ("f1/", "json_valid_rate")
NOTHING = Cell("\u2013")
Rows = list[tuple[str, list[Cell]]]


def render(runs: Sequence[RunData], figures: Mapping[str, Any]) -> str:
    """The whole page as HTML; `figures` is the runs' `summary`."""
    columns = list(figures["runs"].values())
    sections: dict[str, Rows] = {
        "Held-out records, greedy": _courses(columns, "held_out") + _changes(columns),
        f"Training, means of {WINDOW_STEPS} steps": _courses(columns, "training"),
        "Cost": [(label, [_cost(run[key]) for run in columns]) for key, label in COSTS.items()],
    }
    return fill(
        "comparison.html.j2",
        names=list(figures["runs"]),
        sections={title: rows for title, rows in sections.items() if rows},
        config={key: list(row.values()) for key, row in figures["config"].items()},
        notes=[f"{run.name}: {note}" for run in runs for note in run.notes],
        figures=overlaid_figures(runs),
    )


def _courses(columns: Sequence[Mapping[str, Any]], part: str) -> Rows:
    keys = [key for key in LABELS if any(key in run[part] for run in columns)]
    return [
        (f"{LABELS[key]}{_unit(key)}", [_course(key, run[part].get(key)) for run in columns])
        for key in keys
    ]


def _course(key: str, course: Mapping[str, Any] | None) -> Cell:
    if course is None:
        return NOTHING
    start, end, best = (_number(key, course[name]) for name in ("start", "end", "best"))
    return Cell(f"{start} \u2192 {end}", f"best {best} at step {course['best_step']}")


def _changes(columns: Sequence[Mapping[str, Any]]) -> Rows:
    """Paired differences from the first run, where any other has the same records."""
    keys = [key for key in LABELS if any(key in run["change"] for run in columns)]
    return [
        (f"{LABELS[key]}: last, against the first run", [_change(run, key) for run in columns])
        for key in keys
    ]


def _change(run: Mapping[str, Any], key: str) -> Cell:
    if key not in run["change"]:
        return NOTHING
    change = run["change"][key]
    low, high = change["interval"]
    return Cell(f"{100 * change['difference']:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}")


def _cost(value: float) -> Cell:
    return Cell(f"{value:,.0f}")


def _unit(key: str) -> str:
    return ", %" if key.startswith(PERCENT) else ""


def _number(key: str, value: float) -> str:
    if key.startswith(PERCENT):
        return f"{100 * value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
