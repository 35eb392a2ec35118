"""Repeated measurements -> rows -> a table, a JSON file, and a comparison with a baseline.

    python -m benchmarks.result FILES > tables.md

turns JSON files into the tables of docs/performance.md.

A baseline is a result file kept in `baselines/`; `baselines/limits.json` says how far a row may lie
from it: {bench: {metric: {"goal": [low, high], "of_baseline": [low, high]}}}, null for no bound.
"goal" bounds the median itself. "of_baseline" bounds median / baseline median.

Invariant: every row has as many values as there were runs, so a spread is always shown, and a
figure with a unit of time or speed is only compared with one from the same hardware.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from t2g_ray.run.folder import write_json
from t2g_ray.run.machine import describe_machine

BASELINES = Path(__file__).parent / "baselines"
PORTABLE_UNITS = ("ratio", "share", "count")
"""Units of figures that mean the same on other hardware."""

WIDTH = 140
"""Width in characters of a table that goes to a file."""

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One metric over all runs. Example: ResultRow(metric="actor_over_vllm", median=0.97, ...)."""

    metric: str
    median: float
    min: float
    max: float
    unit: str
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A row beside its expectation; `is_ok` is None where nothing was comparable."""

    row: ResultRow
    baseline: float | None
    expected: str
    is_ok: bool | None


def make_row(metric: str, values: Sequence[float], unit: str) -> ResultRow:
    """The row of one value a run. Raises ValueError without values or with one not finite."""
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{metric} needs a finite value of each run, found {list(values)}")
    return ResultRow(
        metric=metric,
        median=float(median(values)),
        min=float(min(values)),
        max=float(max(values)),
        unit=unit,
        runs=len(values),
    )


def ratio_row(metric: str, above: Sequence[float], below: Sequence[float]) -> ResultRow:
    """The row of above / below, run by run: alternating runs share what disturbs the machine."""
    return make_row(metric, [a / b for a, b in zip(above, below, strict=True)], "ratio")


def document(bench: str, rows: Sequence[ResultRow], command: str) -> dict[str, Any]:
    """The JSON form of a result, with the command line that made it."""
    facts = {"bench": bench, "command": command, **describe_machine()}
    return {**facts, "rows": [asdict(row) for row in rows]}


def report(
    bench: str, rows: Sequence[ResultRow], command: str, json_out: Path | None
) -> list[Verdict]:
    """Print the table, write the file if wanted, and return what the limits say."""
    result = document(bench, rows, command)
    verdicts = _verdicts(result)
    # A file has no width, and a figure must not be cut.
    console = Console() if Console().is_terminal else Console(width=WIDTH)
    console.print(_table(bench, verdicts))
    if json_out is not None:
        json_out.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_out, result)
    return verdicts


def _verdicts(result: Mapping[str, Any]) -> list[Verdict]:
    bench = result["bench"]
    limits = _read(BASELINES / "limits.json").get(bench, {})
    return compare(result, _read(BASELINES / f"{bench}.json"), limits)


def compare(
    result: Mapping[str, Any],
    baseline: Mapping[str, Any],
    limits: Mapping[str, Mapping[str, Bounds]],
) -> list[Verdict]:
    """Hold each row against its goal and, where the figures are comparable, its baseline."""
    is_same_machine = baseline.get("machine") == result["machine"]
    known = {row["metric"]: row["median"] for row in baseline.get("rows", ())}
    verdicts = []
    for fields in result["rows"]:
        row = ResultRow(**fields)
        is_comparable = is_same_machine or row.unit in PORTABLE_UNITS
        reference = known.get(row.metric) if is_comparable else None
        verdicts.append(_judge(row, reference, limits.get(row.metric, {})))
    return verdicts


def _judge(row: ResultRow, reference: float | None, limit: Mapping[str, Bounds]) -> Verdict:
    checks: list[tuple[str, bool]] = []
    if "goal" in limit:
        checks.append((_words(limit["goal"]), _within(row.median, limit["goal"])))
    if "of_baseline" in limit and reference:
        bounds = limit["of_baseline"]
        checks.append((f"{_words(bounds)} x baseline", _within(row.median / reference, bounds)))
    return Verdict(
        row=row,
        baseline=reference,
        expected=", ".join(words for words, _ in checks),
        is_ok=all(is_ok for _, is_ok in checks) if checks else None,
    )


def _within(value: float, bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or value >= low) and (high is None or value <= high)


def _words(bounds: Bounds) -> str:
    low, high = bounds
    ends = [f">= {low:g}" if low is not None else "", f"<= {high:g}" if high is not None else ""]
    return " and ".join(end for end in ends if end)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _table(bench: str, verdicts: Sequence[Verdict]) -> Table:
    table = Table(title=f"t2g bench {bench}", title_justify="left", box=SIMPLE)
    columns = ("median", "min", "max", "unit", "runs", "baseline", "expected", "")
    for name in ("metric", *columns):
        is_text = name in ("metric", "unit", "expected", "")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    marks = {None: "", True: "[green]ok[/]", False: "[red]outside[/]"}
    for verdict in verdicts:
        row = verdict.row
        table.add_row(
            row.metric,
            *(_number(value) for value in (row.median, row.min, row.max)),
            row.unit,
            str(row.runs),
            "" if verdict.baseline is None else _number(verdict.baseline),
            verdict.expected,
            marks[verdict.is_ok],
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def markdown(result: Mapping[str, Any]) -> str:
    """A result as a section: command, table, and what it was measured on."""
    lines = [
        f"### {result['bench']}",
        "",
        f"`{result['command']}`",
        "",
        "| metric | median | min | max | unit | runs | target | met |",
        "|---|--:|--:|--:|---|--:|---|---|",
    ]
    marks = {None: "", True: "yes", False: "no"}
    for verdict in _verdicts(result):
        row = verdict.row
        numbers = " | ".join(_number(value) for value in (row.median, row.min, row.max))
        end = f"{row.unit} | {row.runs} | {verdict.expected} | {marks[verdict.is_ok]}"
        lines.append(f"| `{row.metric}` | {numbers} | {end} |")
    return "\n".join([*lines, "", f"Measured on: {place_of(result)}.", ""])


def place_of(facts: Mapping[str, Any]) -> str:
    """Machine and versions in one line of text."""
    return ", ".join(f"{k} {v}" for k, v in {**facts["machine"], **facts["versions"]}.items())


def write_section(page: Path, name: str, text: str) -> None:
    """Put the text between the marks of `name` in a page; the rest of the page stays.

    A page without the marks gets them at its end.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    before, _, rest = old.partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the sections of all files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.result", description=main.__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="written by `t2g bench X --json FILE`")
    for path in parser.parse_args(arguments).files:
        print(markdown(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
