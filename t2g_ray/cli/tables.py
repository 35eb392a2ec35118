"""Results -> tables on the terminal. Tables go to standard output, except that of a graph, whose
JSON is the result there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from t2g_ray.evaluation.evaluate import EvalResult
    from t2g_ray.graph import Graph


def print_evaluation(result: EvalResult, *, title: str) -> None:
    """Overall figures, and those of each type."""
    console = Console()
    figures = result.figures()
    overall = _table(
        title, ("", "F1", "precision", "recall", "F1 strict", "F1 relaxed", "F1 macro")
    )
    for name in ("entities", "relations"):
        keys = ("f1", "precision", "recall", "f1_strict", "f1_relaxed", "f1_macro")
        found = (figures.get(f"{key}/{name}") for key in keys)
        overall.add_row(name, *("" if one is None else _percent(one) for one in found))
    console.print(overall)
    by_type = _table("by type", ("", "type", "F1", "precision", "recall", "gold"))
    for name, rows in result.type_table().items():
        for type_, row in sorted(rows.items(), key=lambda item: -(item[1]["tp"] + item[1]["fn"])):
            shown = (_percent(row[key]) for key in ("f1", "precision", "recall"))
            by_type.add_row(name, escape(type_), *shown, str(int(row["tp"] + row["fn"])))
    console.print(by_type)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.parse_kinds.items()))
    console.print(
        f"{result.num_records} records, valid JSON {_percent(result.json_valid_rate)} ({kinds})"
    )


def print_figures(figures: Mapping[str, float]) -> None:
    """One row a figure."""
    table = _table("", ("figure", "value"))
    for key, value in figures.items():
        table.add_row(escape(key), f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)


def print_graph(graph: Graph) -> None:
    """Entities and relations on standard error."""
    table = Table("from", "relation or type", "to")
    for entity in graph.entities:
        table.add_row(escape(entity.text), escape(entity.type), "")
    for relation in graph.relations:
        table.add_row(escape(relation.head), escape(relation.type), escape(relation.tail))
    Console(stderr=True).print(table)


def print_result(summary: Mapping[str, Any]) -> None:
    """The before and after of a report.json, as on its page."""
    from t2g_ray.report.headline import tables

    console = Console()
    for source in tables(summary, []):
        table = _table(source.title, ("", *source.columns))
        for label, cells in source.rows:
            table.add_row(label, *(f"{cell.value} {_bounds(cell.interval)}" for cell in cells))
        console.print(table)


def _bounds(interval: str) -> str:
    return f"({interval})" if interval else ""


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 or column == "type" else "right")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
