"""`t2g doctor`: what this machine has and lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from t2g_ray.cli.machine.doctor import Check

MARKS = {"good": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}


def doctor_command() -> None:
    """Check this machine: packages, memory, GPUs, connections. Exit code 1 if anything is missing.

    Example: t2g doctor
    """
    from t2g_ray.cli.machine.doctor import examine, verdict

    checks = examine()
    print_checks(checks)
    typer.echo(verdict(checks))
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(1)


def print_checks(checks: Sequence[Check]) -> None:
    """One row a check."""
    table = Table("", "check", "found", "what to do")
    for check in checks:
        table.add_row(
            MARKS[check.status], escape(check.name), escape(check.found), escape(check.advice)
        )
    Console().print(table)
