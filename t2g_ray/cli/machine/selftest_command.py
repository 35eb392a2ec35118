"""`t2g selftest`: every claim about this machine that a few minutes can confirm or refute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2g_ray.cli.exits import FAILED


def selftest_command(
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Upper bound; what does not fit is skipped.")
    ] = 10,
    out: Annotated[Path, typer.Option(help="Folder of selftest.json and selftest.html.")] = Path(
        "runs/selftest"
    ),
    model: Annotated[
        str | None,
        typer.Option(
            help="A folder, or a shape with random weights: demo, 10m, qwen2.5-0.5b, "
            "qwen2.5-1.5b, ...; chosen by the device when not given."
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Names of the checks to run, separated by commas.")
    ] = None,
) -> None:
    """Show on this machine that training works: parity, weight sync, runs, memory, speed.

    Exit code 1 if a check failed; what was skipped says why.

    Example: t2g selftest --minutes 5
    """
    from benchmarks.selftest.app import SelfTestOptions, run
    from benchmarks.selftest.page import claim_lines, outcome_lines
    from t2g_ray.cli.machine.doctor import examine

    options = SelfTestOptions(
        minutes=minutes,
        out=out,
        model=model,
        only=[name.strip() for name in only.split(",")] if only else [],
    )
    report = run(options, examine, tell=lambda outcome: typer.echo(outcome_lines(outcome)))
    typer.echo(claim_lines(report))
    typer.echo(f"{report.verdict}\npage: {out}/selftest.html, figures: {out}/selftest.json")
    if report.failed:
        raise typer.Exit(FAILED)
