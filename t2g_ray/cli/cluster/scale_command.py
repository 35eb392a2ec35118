"""`t2g scale`: more or fewer rollout actors for a live run, by number or by its own figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def scale_command(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a live GRPO run.")],
    rollouts: Annotated[
        int | None, typer.Option(min=1, help="How many rollout actors it should have.")
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Let the run choose the number by its own figures.")
    ] = False,
    least: Annotated[int | None, typer.Option("--min", help="With --auto: no fewer.")] = None,
    most: Annotated[int | None, typer.Option("--max", help="With --auto: no more.")] = None,
    cool_down_s: Annotated[
        float, typer.Option(help="With --auto: seconds from a change to the next one.")
    ] = 60,
    off: Annotated[
        bool, typer.Option("--off", help="End --auto; the run keeps the number that it has.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for the run to follow.")] = 600,
) -> None:
    """Give a live run more or fewer rollout actors, or let it choose, and wait until it follows.

    Example: t2g scale runs/grpo --rollouts 4, or t2g scale runs/grpo --auto --min 1 --max 8
    """
    from t2g_ray.run import scale_request as asking
    from t2g_ray.run.folder import RunDir

    _check_one(rollouts, auto=auto, off=off, has_bounds=least is not None or most is not None)
    run = RunDir(run_dir)
    if rollouts is not None:
        asking.request_rollouts(run, rollouts, timeout_s=timeout_s)
        typer.echo(f"{rollouts} rollout actors work for {run_dir}")
    elif off:
        number = asking.request_off(run, timeout_s=timeout_s)
        typer.echo(f"{run_dir} keeps {number} rollout actors")
    else:
        if most is None:
            raise ValueError("--auto needs --max, the most rollout actors that the run may have")
        bounds = asking.Bounds(1 if least is None else least, most, cool_down_s)
        asking.request_auto(run, bounds, timeout_s=timeout_s)
        typer.echo(f"{run_dir} chooses between {bounds.least} and {bounds.most} rollout actors")


def _check_one(rollouts: int | None, *, auto: bool, off: bool, has_bounds: bool) -> None:
    given = {"--rollouts": rollouts is not None, "--auto": auto, "--off": off}
    found = [name for name, is_given in given.items() if is_given]
    if len(found) != 1:
        raise ValueError(
            "one of --rollouts N, --auto and --off must be given, found "
            f"{', '.join(found) or 'none'}"
        )
    if has_bounds and not auto:
        raise ValueError(f"--min and --max must come with --auto, found {found[0]}")
