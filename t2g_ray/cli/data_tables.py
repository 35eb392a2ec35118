"""Results of the data commands -> tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from t2g_ray.data.card import COUNTS
from t2g_ray.data.importers.run import ImportResult
from t2g_ray.data.inspect import Inspection, Overlap, SplitRecords
from t2g_ray.data.select import Selection

BAR_WIDTH = 40
MAX_TYPES = 20
MAX_FILES = 5


def print_import(result: ImportResult, *, name: str) -> None:
    """Counts, what was changed in kept rows, and rejections with their first message."""
    console = Console()
    console.print(f"[bold]{escape(name)}[/] ({result.layout.name})")
    console.print(_counts("rows", result.counts))
    if result.changes:
        console.print(_counts("changed in kept rows", result.changes))
    if result.splits:
        parts = ", ".join(f"{name} {count}" for name, count in result.splits.items())
        console.print(escape(f"records by split: {parts}"))
    if result.left_out:
        num_more = len(result.left_out) - MAX_FILES
        names = result.left_out[:MAX_FILES] + [f"{num_more} more"] * (num_more > 0)
        console.print(escape(f"files that were not read: {', '.join(names)}"))
    if result.rejections:
        first = {item.reason: item for item in reversed(result.rejections)}
        table = _table("rejected", ("reason", "rows", "first"))
        for reason, count in result.reasons.items():
            example = f"{first[reason].place}: {first[reason].message}"
            table.add_row(escape(reason), str(count), escape(example))
        console.print(table)


def print_inspection(inspection: Inspection) -> None:
    """Every split by itself, then what they share."""
    console = Console()
    for split in inspection.splits:
        _print_split(console, split)
    if inspection.repeats:
        rows = (_overlap_row(overlap, is_within=True) for overlap in inspection.repeats)
        console.print(_overlaps("texts repeated inside a split", rows))
    if inspection.leaks:
        rows = (_overlap_row(overlap, is_within=False) for overlap in inspection.leaks)
        console.print(_overlaps("texts shared between splits", rows))


def _print_split(console: Console, split: SplitRecords) -> None:
    console.print(f"[bold]{escape(split.name)}[/]")
    console.print(_counts("records", _worded(split.counts())))
    for kind, uses in split.types().items():
        if uses:
            shown = dict([*uses.items()][:MAX_TYPES])
            if len(uses) > MAX_TYPES:
                shown[f"{len(uses) - MAX_TYPES} more"] = sum([*uses.values()][MAX_TYPES:])
            console.print(_counts(f"types of {kind}", shown))
    lengths = split.lengths()
    if lengths["histogram"]:
        console.print(_histogram(lengths["histogram"]))
    found = {kind: item for kind, item in split.faults().items() if item["count"]}
    if not found:
        console.print("no faults")
        return
    table = _table("faults", ("kind", "count", "first"))
    for kind, item in found.items():
        first = item["samples"][0]
        table.add_row(kind, str(item["count"]), escape(f"{first['found']} | {first['text']}"))
    console.print(table)


def _histogram(bins: Sequence[Sequence[int]]) -> Table:
    highest = max(count for _, _, count in bins)
    table = _table("text length in characters", ("from", "to", "texts", ""))
    for low, high, count in bins:
        bar = Bar(highest, 0, count, width=BAR_WIDTH)
        table.add_row(str(low), str(high), str(count), bar)
    return table


def _overlap_row(overlap: Overlap, *, is_within: bool) -> tuple[str, str, str, str]:
    names = overlap.first if is_within else f"{overlap.first} and {overlap.second}"
    first = overlap.samples[0][1] if overlap.samples else ""
    return names, str(overlap.num_identical), str(overlap.num_near), first


def _overlaps(title: str, rows: Iterable[Sequence[str]]) -> Table:
    table = _table(title, ("splits", "identical", "near", "first"))
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def print_selection(selection: Selection) -> None:
    """Counts before and after, and rejections by reason."""
    card = selection.card()
    console = Console()
    table = _table("selection", ("", "before", "after"))
    for name in COUNTS:
        row = (str(card[part][name]) for part in ("before", "after"))
        table.add_row(name.replace("_", " "), *row)
    console.print(table)
    if card["rejected"]:
        reasons = {reason: item["count"] for reason, item in card["rejected"].items()}
        console.print(_counts("left out", _worded(reasons)))


def print_generation(card: Mapping[str, Any]) -> None:
    """What came into and out of each step, and the reasons for what did not."""
    console = Console()
    table = _table("steps", ("", "in", "out", "left out"))
    for step in card["steps"]:
        reasons = [f"{item['count']} {reason}" for reason, item in step["rejected"].items()]
        table.add_row(
            step["step"], str(step["in"]), str(step["out"]), escape(_worded_list(reasons))
        )
    console.print(table)
    records = card["records"]
    shown = {name: records[name] for name in COUNTS}
    console.print(_counts("records", _worded({**shown, **card["variants"]})))
    if card["agreement"] is not None:
        console.print(f"mean agreement of samples: {card['agreement']['mean']:.3f}")


def _worded_list(items: Sequence[str]) -> str:
    return ", ".join(items).replace("_", " ")


def _counts(title: str, counts: Mapping[str, Any]) -> Table:
    table = _table(title, ("", "count"))
    for name, count in counts.items():
        table.add_row(escape(name), str(count))
    return table


def _worded(counts: Mapping[str, int]) -> dict[str, int]:
    return {name.replace("_", " "): count for name, count in counts.items()}


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        is_text = column in ("", "first", "kind", "left out", "reason", "splits")
        table.add_column(column, justify="left" if is_text else "right")
    return table
