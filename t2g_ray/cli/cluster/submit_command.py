"""`t2g submit`: a command as a job on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def submit_command(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
    address: Annotated[str, typer.Option(help="Job API of the cluster, http://HEAD:8265.")],
    is_awaited: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show the log until the job ends.")
    ] = True,
) -> None:
    """Run a command as a job on a Ray cluster: tracked files travel, nothing else does.

    Example: t2g submit --address http://head:8265 -- t2g grpo configs/cluster_8x.yaml
    """
    from actors.submit import follow
    from actors.submit import submit as send

    sent = send(command, address=address, checkout=Path.cwd())
    typer.echo(sent.summary)
    if is_awaited and (status := follow(sent.job, address=address)) != "SUCCEEDED":
        raise RuntimeError(f"job {sent.job} ended as {status}; its log is above")
