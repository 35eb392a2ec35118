"""`t2g submit`: a command as a job on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2g_ray.cli.cluster.job_commands import Address, show, show_end, tell, while_following


def submit_command(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
    address: Address,
    is_followed: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Show the log until the job ends.")
    ] = True,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="A further variable that the job is to have."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A variable whose value stands in a file there."),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Name of the job; Ray gives it one.")] = None,
) -> None:
    """Run a command as a job on a Ray cluster: tracked files travel, secrets never do.

    Variables of the families T2G_, HF_, NCCL_, VLLM_, TORCH_, CUDA_, WANDB_ and others travel too,
    and the command says which. Ctrl-C ends the showing, not the job.

    Example: t2g submit --address http://head:8265 -- t2g grpo configs/cluster_8x.yaml
    """
    from actors import jobs
    from actors.submit import submit

    sent = submit(
        command,
        address=address,
        checkout=Path.cwd(),
        job=job,
        named=env or (),
        secrets=secret or (),
    )
    typer.echo(sent.summary)
    if is_followed:
        with while_following(sent.job, address):
            ended = jobs.follow(sent.job, address=address, show=show, tell=tell)
        show_end(ended.name, ended.status, wanted="SUCCEEDED")
