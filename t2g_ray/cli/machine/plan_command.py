"""`t2g plan`: what a configuration comes to, before anything is started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from t2g_ray.cli.arguments import ConfigFile, Overrides

if TYPE_CHECKING:
    from t2g_ray.config import StageConfig


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
    from t2g_ray.planning.memory.learner import memory_line
    from t2g_ray.planning.shapes import read_shape
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
