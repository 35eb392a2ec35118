"""Results and verdicts -> a table in the terminal, or Markdown.

Invariant: "met" is `Verdict.is_met` and nothing else, here and in the pages.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.limits import Verdict
from benchmarks.result import Result, ResultRow, place_of

WIDTH = 160
"""Width in characters of a table that goes to a file."""
ROW_HEAD = "| metric | median | min | max | unit | runs | demanded | baseline | met |"
ROW_RULE = "|---|--:|--:|--:|---|--:|---|--:|---|"


def print_result(result: Result, verdicts: Sequence[Verdict]) -> None:
    """All rows with their verdicts, then the reasons of what is missed."""
    # A file has no width, and a figure must not be cut.
    console = Console() if Console().is_terminal else Console(width=WIDTH)
    table = Table(title=f"t2g bench {result.bench}", title_justify="left", box=SIMPLE)
    for name in ("metric", "median", "min", "max", "unit", "runs", "demanded", "baseline", ""):
        is_text = name in ("metric", "unit", "demanded", "")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    known = {verdict.limit.metric: verdict for verdict in verdicts}
    for row in result.rows:
        verdict = known.get(row.metric)
        mark = "" if verdict is None else ("[green]met[/]" if verdict.is_met else "[red]missed[/]")
        table.add_row(*cells(row, verdict), mark)
    console.print(table)
    for line in missed(verdicts):
        console.print(line, style="red", markup=False, highlight=False)


def missed(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for each limit that is not met, with all reasons."""
    return [
        f"{verdict.limit.metric} must be {verdict.limit.words}: {'; '.join(verdict.problems)}"
        for verdict in verdicts
        if not verdict.is_met
    ]


def cells(row: ResultRow, verdict: Verdict | None) -> list[str]:
    """Metric, median, ends, unit, runs, what is demanded, baseline."""
    is_compared = verdict is not None and verdict.baseline is not None
    return [
        row.metric,
        *(number(value) for value in (row.median, row.min, row.max)),
        row.unit,
        str(row.runs),
        verdict.limit.words if verdict else "",
        number(verdict.baseline) if verdict and is_compared else "",  # type: ignore[arg-type]
    ]


def number(value: float) -> str:
    """Four digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def markdown(result: Result, verdicts: Sequence[Verdict]) -> str:
    """A result as text: command, table, what it was measured on, of what, when."""
    known = {verdict.limit.metric: verdict for verdict in verdicts}
    lines = [f"`{result.command}`", "", ROW_HEAD, ROW_RULE]
    for row in result.rows:
        verdict = known.get(row.metric)
        metric, *others = cells(row, verdict)
        lines.append(f"| `{metric}` | {' | '.join([*others, met(verdict)])} |")
    facts = {"machine": result.machine, "versions": result.versions}
    when = ", ".join(result.measured)
    return "\n".join(
        [*lines, "", f"Measured on: {place_of(facts)}. Code: {result.commit}. At: {when}.", ""]
    )


def met(verdict: Verdict | None) -> str:
    """What the column "met" says; empty where nothing is demanded."""
    return "" if verdict is None else ("yes" if verdict.is_met else "no")


def span(row: ResultRow) -> str:
    """Example: "0.92 (0.88 to 0.94)"."""
    low, middle, high = (number(value) for value in (row.min, row.median, row.max))
    return f"{middle} ({low} to {high})"
