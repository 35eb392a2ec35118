"""`t2g plan`: what a configuration comes to, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2g_ray.cli.arguments import ConfigFile, Overrides
from t2g_ray.cli.machine.plan_options import (
    AnswerTokens,
    CardName,
    LikeRun,
    Measure,
    Network,
    PromptTokens,
    RatesFile,
    given_rates,
)

if TYPE_CHECKING:
    from t2g_ray.config import StageConfig
    from t2g_ray.planning.cluster import Cluster
    from t2g_ray.planning.plan import Plan
    from t2g_ray.planning.timing import Told

Nodes = Annotated[
    str | None,
    typer.Option(help='Machines to plan for, such as "1 x 4 x L40S, 6 x 1 x L40S".'),
]
SizesOf = Annotated[
    str | None,
    typer.Option(help="Folder or hub name of a model of the same sizes, where `model` is absent."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the plan to this file.")]
Picture = Annotated[Path | None, typer.Option(help="Draw it into this SVG file.")]


def plan_command(
    config: ConfigFile,
    overrides: Overrides = None,
    nodes: Nodes = None,
    sizes_of: SizesOf = None,
    rates: RatesFile = None,
    measure: Measure = False,
    card: CardName = None,
    network: Network = None,
    prompt_tokens: PromptTokens = None,
    answer_tokens: AnswerTokens = None,
    like: LikeRun = None,
    json_file: JsonFile = None,
    picture: Picture = None,
) -> None:
    """Show what a configuration, of GRPO or SFT, comes to and whether it fits; start nothing.

    The time of a step is planned from a table of cards, or from rates that were measured. It all
    must fit on the machines of --nodes, else on the cluster of RAY_ADDRESS, else on those that
    the configuration names (`cluster`), else on this machine; exit code 2 where it does not.

    Example: t2g plan configs/demo_grpo.yaml group_size=16
    """
    from t2g_ray.config import read_tree
    from t2g_ray.config.device.told import device_lines
    from t2g_ray.records.outputs import check_outputs

    check_outputs({"--json": json_file, "--picture": picture}, [config])
    tree = read_tree(config, overrides or ())
    settings = _as_stage(tree)
    from actors.cluster.placement import fit_lines, plan_table
    from actors.plan import nodes_of, plan_run

    typer.echo("\n".join(device_lines(type(settings), tree)))
    typer.echo(plan_table(settings))
    cluster = _cluster(settings, nodes)
    plan = plan_run(settings, cluster, like=sizes_of)
    if plan is not None:
        from t2g_ray.planning.timing import Told

        told = Told(
            rates=given_rates(settings, rates, measure=measure),
            card=card,
            network=network,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            like=like,
        )
        _show(_with_time(settings, plan, told), json_file, picture)
    elif json_file or picture or sizes_of:
        raise ValueError(f"a plan needs the sizes of the model: {_unknown(settings, sizes_of)}")
    else:
        typer.echo(f"memory: not known, since {_unknown(settings, sizes_of)}")
    typer.echo(fit_lines(settings, nodes_of(cluster)))


def _cluster(settings: StageConfig, nodes: str | None) -> Cluster:
    """The machines to plan for."""
    import os

    from actors.plan import cluster_here
    from t2g_ray.planning.cluster import read_nodes

    if nodes is not None:
        return read_nodes(nodes, "--nodes")
    if settings.cluster is not None and not os.environ.get("RAY_ADDRESS"):
        return read_nodes(settings.cluster, "cluster")
    return cluster_here()


def _with_time(settings: StageConfig, plan: Plan, told: Told) -> Plan:
    """Where there is nothing to plan its time from, it is said what is missing."""
    from t2g_ray.planning.timing import TimeNotKnown, with_time

    try:
        return with_time(settings, plan, told)
    except TimeNotKnown as unknown:
        typer.echo(f"time: not known: {unknown}")
        return plan


def _show(plan: Plan, json_file: Path | None, picture: Path | None) -> None:
    """Tables, and the files that are wanted. Raises ValueError where it does not fit."""
    from t2g_ray.cli.machine.plan_table import print_plan, refusal
    from t2g_ray.cli.machine.speed_table import print_speed
    from t2g_ray.report.plots.plan_bars import draw_plan
    from t2g_ray.run.folder import write_json, write_text

    print_plan(plan)
    if plan.speed is not None:
        print_speed(plan.speed)
    for path in filter(None, (json_file, picture)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if json_file is not None:
        write_json(json_file, plan.as_json())
    if picture is not None:
        write_text(picture, draw_plan(plan))
    if not plan.fits:
        raise ValueError(refusal(plan))


def _unknown(settings: StageConfig, sizes_of: str | None) -> str:
    return (
        f"{sizes_of or settings.model} is not on this machine, nor in the table of released "
        "models; --sizes-of MODEL counts with the sizes of another one, such as Qwen/Qwen2.5-0.5B"
    )


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
