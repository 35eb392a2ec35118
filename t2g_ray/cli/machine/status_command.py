"""`t2g status`: how a run stands, from the files of its folder alone."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from t2g_ray.report.status.status import RunStatus


def status_command(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run of any stage.")],
    watch: Annotated[bool, typer.Option("--watch", help="Look again until the run ends.")] = False,
    every_s: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a look.")] = False,
) -> None:
    """Say how a run stands: step, rates, scores, fleet, bottleneck, checkpoint, time left.

    The run may be live, finished or dead, and on another machine that shares its folder.

    Example: t2g status runs/grpo --watch
    """
    from rich.console import Console
    from rich.live import Live

    from t2g_ray.report.status.status import read_status

    status = read_status(run_dir)
    if as_json:
        typer.echo(json.dumps(asdict(status)))
        while watch and status.state == "live":
            time.sleep(every_s)
            status = read_status(run_dir)
            typer.echo(json.dumps(asdict(status)))
        return
    console = Console()
    if not watch:
        console.print(_table(status))
        return
    with Live(_table(status), console=console, auto_refresh=False) as screen:
        while status.state == "live":
            time.sleep(every_s)
            status = read_status(run_dir)
            screen.update(_table(status), refresh=True)
    if not console.is_terminal:
        console.print()  # only a terminal is left on a new line


def _table(status: RunStatus) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from t2g_ray.report.status.words import rows_of

    table = Table(title=escape(f"{status.stage} in {status.folder}"), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in rows_of(status):
        table.add_row(escape(name), escape(value))
    return table
