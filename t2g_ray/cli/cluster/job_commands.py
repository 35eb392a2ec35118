"""`t2g job`: what became of submitted jobs, their logs, and their orderly end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from t2g_ray.run.job.state import Job

job_app = typer.Typer(
    no_args_is_help=True, help="Look at submitted jobs.", pretty_exceptions_enable=False
)

Address = Annotated[
    str,
    typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Job API of the cluster, http://HEAD:8265."),
]
Name = Annotated[str, typer.Argument(metavar="JOB", help="Its name, as `t2g submit` gave it.")]
IsJson = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]


@job_app.command("list")
def list_command(address: Address, is_json: IsJson = False) -> None:
    """List all jobs that were submitted to a cluster, the latest first.

    Example: t2g job list --address http://head:8265
    """
    from actors.jobs import jobs

    _print(jobs(address), is_json=is_json)


@job_app.command("status")
def status_command(name: Name, address: Address, is_json: IsJson = False) -> None:
    """Tell what one job does, or how it ended.

    Example: t2g job status raysubmit_4LamXRuQpYdSMg7J --address http://head:8265
    """
    from actors.jobs import job

    found = job(name, address=address)
    _print([found], is_json=is_json)
    if not is_json and found.message:
        typer.echo(found.message)


@job_app.command("logs")
def logs_command(
    name: Name,
    address: Address,
    is_followed: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on until the job ends.")
    ] = False,
) -> None:
    """Show what a job wrote, and what it goes on to write.

    Example: t2g job logs raysubmit_4LamXRuQpYdSMg7J --follow --address http://head:8265
    """
    from actors import jobs

    if not is_followed:
        show(jobs.log(name, address=address))
        return
    with while_following(name, address):
        ended = jobs.follow(name, address=address, show=show, tell=tell)
    show_end(ended.name, ended.status, wanted="SUCCEEDED")


@job_app.command("stop")
def stop_command(name: Name, address: Address) -> None:
    """End a job after the step that it is in, with a checkpoint, and wait for it.

    Example: t2g job stop raysubmit_4LamXRuQpYdSMg7J --address http://head:8265
    """
    from actors import jobs

    with while_following(name, address):
        ended = jobs.stop(name, address=address, show=show, tell=tell)
    show_end(ended.name, ended.status, wanted="STOPPED")


def show(text: str) -> None:
    """A piece of a log, as it is."""
    typer.echo(text, nl=False)


def tell(text: str) -> None:
    """A word beside the log."""
    typer.echo(text, err=True)


def show_end(name: str, status: str, *, wanted: str) -> None:
    """How a job ended. Raises RuntimeError where it should have ended otherwise."""
    if status != wanted:
        raise RuntimeError(f"job {name} ended as {status}; its log is above")
    typer.echo(f"job {name} ended as {status}")


@contextmanager
def while_following(name: str, address: str) -> Iterator[None]:
    """Ctrl-C ends the showing and says how to come back."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"job {name} goes on without being shown; t2g job logs {name} --follow shows it "
            f"again, t2g job stop {name} ends it (both with --address {address})"
        ) from None


def _print(found: list[Job], *, is_json: bool) -> None:
    import json
    from dataclasses import asdict

    if is_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    for one in found:
        typer.echo(f"{one.name}  {one.status}  {_times(one)}  {one.command}")


def _times(job: Job) -> str:
    if job.started_s is None:
        return "not started"
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started_s))
    return f"{began}  {((job.ended_s or time.time()) - job.started_s) / 60:.1f} min"
