"""The commands that look at a machine and start nothing: doctor, plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from t2g_ray.cli.arguments import ConfigFile, Overrides

if TYPE_CHECKING:
    from t2g_ray.cli.machine.doctor import Check
    from t2g_ray.config import StageConfig

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


def plan_command(config: ConfigFile, overrides: Overrides = None) -> None:
    """Show what a configuration, of GRPO or SFT, comes to and whether it fits; start nothing.

    It must fit on the cluster of RAY_ADDRESS, else on this machine; exit code 2 where it does not.

    Example: t2g plan configs/demo_grpo.yaml group_size=16
    """
    from t2g_ray.config import read_tree
    from t2g_ray.config.device.told import device_lines

    tree = read_tree(config, overrides or ())
    settings = _as_stage(tree)
    from actors.cluster.placement import fit_lines, nodes_to_plan_for, plan_table

    typer.echo("\n".join(device_lines(type(settings), tree)))
    typer.echo(plan_table(settings))
    for line in _memory_lines(settings):
        typer.echo(line)
    typer.echo(fit_lines(settings, nodes_to_plan_for()))


def _memory_lines(config: StageConfig) -> Iterator[str]:
    """What a learner rank needs of its GPU; none where it computes on the CPU."""
    from t2g_ray.config import EMBEDDED

    if config.device != "cuda" or config.model == EMBEDDED:
        return
    from t2g_ray.model.memory import memory_line, read_shape
    from t2g_ray.run.device.gpus import visible_gpus

    shape = read_shape(config.model)
    if shape is None:
        yield f"memory: not known, since {config.model} is not on this machine"
        return
    # Those of a cluster are not known here.
    cards = () if os.environ.get("RAY_ADDRESS") else visible_gpus().devices
    yield memory_line(config, shape, min((card.memory_gib for card in cards), default=None))


def _as_stage(tree: Mapping[str, Any]) -> StageConfig:
    """The configuration as the stage that it fits; an error is that of the stage it fits best."""
    from t2g_ray.config import ConfigError, GrpoConfig, SftConfig, build_config

    try:
        return build_config(GrpoConfig, tree)
    except ConfigError as error:
        as_grpo = error
    try:
        return build_config(SftConfig, tree)
    except ConfigError as as_sft:
        raise min(as_grpo, as_sft, key=lambda error: len(str(error))) from None
