"""report.json (or, while a run goes on, its evaluations) -> the table of results.

What is read from report.json: "before" and "after", optionally "sft_continued", each an object
with the keys of MEASURES; optionally the same under "heldout_names" (texts with names that no
training text holds). Any of these objects may hold "interval": {key: [low, high]}; the one beside
"before" and "after" is that of the change. Invariant: nothing is computed but differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2g_ray.report.load import of_heldout

MEASURES = {
    "f1/entities": "Entity F1, exact",
    "f1/relations": "Relation F1, exact",
    "f1_strict/relations": "Relation F1, types of both ends too",
    "f1_relaxed/entities": "Entity F1, relaxed",
    "f1_relaxed/relations": "Relation F1, relaxed",
    "json_valid_rate": "Valid JSON",
}
HEADLINE = ("f1/relations", "f1/entities", "json_valid_rate")
STAGES = {"before": "Before GRPO", "sft_continued": "More SFT instead", "after": "After GRPO"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in percent with its 95 % interval, both as shown."""

    value: str
    interval: str = ""
    is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of (measure, cells), one cell for each of `columns`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def tables(summary: Mapping[str, Any], evals: list[dict[str, Any]]) -> list[Table]:
    """The held-out table, and the one on new names if there is one; none without figures."""
    names = summary.get("heldout_names", {})
    if "after" in summary:
        blocks = {"Held-out records": summary, "Held-out records with unseen names": names}
        return [_table(title, block, STAGES) for title, block in blocks.items() if block]
    held_out = of_heldout(evals)
    if not held_out:
        return []
    stages = {
        "before": f"First, step {held_out[0]['step']}",
        "after": f"Newest, step {held_out[-1]['step']}",
    }
    pair = {"before": held_out[0], "after": held_out[-1]}
    table = _table("Held-out records so far", pair, stages)
    return [table] if table.rows else []  # SFT evaluates the loss only, which is a curve


def cards(table: Table) -> list[tuple[str, Cell, Cell, Cell]]:
    """(measure, before, after, change) for the headline measures that the table has."""
    rows = dict(table.rows)
    labels = [MEASURES[key] for key in HEADLINE if MEASURES[key] in rows]
    return [(label, rows[label][0], rows[label][-2], rows[label][-1]) for label in labels]


def _table(title: str, block: Mapping[str, Any], stages: Mapping[str, str]) -> Table:
    present = {key: label for key, label in stages.items() if key in block}
    rows = []
    for key, label in MEASURES.items():
        if any(key in block[stage] for stage in present):
            cells = [_cell(block[stage], key) for stage in present]
            rows.append((label, (*cells, _change(block, key))))
    return Table(title, (*present.values(), "Change"), tuple(rows))


def _cell(stage: Mapping[str, Any], key: str) -> Cell:
    value = stage.get(key)
    if value is None:
        return Cell("\u2013")
    low_high = stage.get("interval", {}).get(key)
    interval = f"{100 * low_high[0]:.1f} to {100 * low_high[1]:.1f}" if low_high else ""
    return Cell(f"{100 * value:.1f}", interval)


def _change(block: Mapping[str, Any], key: str) -> Cell:
    before, after = (block.get(stage, {}).get(key) for stage in ("before", "after"))
    if before is None or after is None:
        return Cell("\u2013")
    low_high = block.get("interval", {}).get(key)
    interval = f"{100 * low_high[0]:+.1f} to {100 * low_high[1]:+.1f}" if low_high else ""
    return Cell(f"{100 * (after - before):+.1f}", interval, after >= before)
