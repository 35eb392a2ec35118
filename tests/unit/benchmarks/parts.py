"""Results and rows of benchmarks, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.limits import Case, Limit
from benchmarks.result import Result, ResultRow, make_row

MACHINE = {"system": "Linux", "processor": "EPYC", "cores": 2, "memory_gib": 23.5}
EARLIER, LATER = "2026-01-01T10:00:00+00:00", "2026-01-02T10:00:00+00:00"


def row(metric: str, *values: float, unit: str = "tokens/s") -> ResultRow:
    """A row of these values, or of one value in each of three runs."""
    return make_row(metric, values if len(values) > 1 else 3 * values, unit)


def result(*rows: ResultRow, **changes: Any) -> Result:
    """A result of these rows that may be compared with `baseline(...)`."""
    whole = Result(
        bench="x",
        command="t2g bench x",
        settings={"steps": 5},
        config={"rollout.actors": 2},
        commit="b" * 12,
        measured=(LATER,),
        machine=MACHINE,
        versions={"ray": "1.2"},
        rows=rows or (row("speed", 100.0),),
    )
    return replace(whole, **changes)


def baseline(*rows: ResultRow, **changes: Any) -> Result:
    """The same of an earlier commit."""
    return result(*rows, **{"commit": "a" * 12, "measured": (EARLIER,), **changes})


def case(*limits: Limit, name: str = "x", command: str = "t2g bench x") -> Case:
    """A case of these limits."""
    return Case(name=name, command=command, limits=limits)
