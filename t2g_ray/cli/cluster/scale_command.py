"""`t2g scale`: more or fewer rollout actors for a live run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def scale_command(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a live GRPO run.")],
    rollouts: Annotated[int, typer.Option(min=1, help="How many rollout actors it should have.")],
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait until it has that many.")] = 600,
) -> None:
    """Give a live run more or fewer rollout actors, and wait until they work.

    Example: t2g scale runs/grpo --rollouts 4
    """
    from t2g_ray.run.folder import RunDir
    from t2g_ray.run.scale_request import request_rollouts

    request_rollouts(RunDir(run_dir), rollouts, timeout_s=timeout_s)
    typer.echo(f"{rollouts} rollout actors work for {run_dir}")
