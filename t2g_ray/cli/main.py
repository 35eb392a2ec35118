"""The `t2g` command: argument lists -> runs. Exit codes and messages are those of `exits`.

Commands reach into `actors` and `benchmarks` only when they run, so that --help responds at once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2g_ray import __version__
from t2g_ray.cli import model_commands
from t2g_ray.cli.arguments import ConfigFile, Overrides
from t2g_ray.cli.cluster.job_commands import job_app
from t2g_ray.cli.cluster.scale_command import scale_command
from t2g_ray.cli.cluster.submit_command import submit_command
from t2g_ray.cli.data_commands import data_app
from t2g_ray.cli.exits import CommandGroup, notes_on_failure
from t2g_ray.cli.machine.doctor_command import doctor_command
from t2g_ray.cli.machine.plan_command import plan_command
from t2g_ray.cli.machine.selftest_command import selftest_command
from t2g_ray.cli.machine.status_command import status_command
from t2g_ray.cli.report_command import report_command
from t2g_ray.run.job.secrets import load as load_secrets

if TYPE_CHECKING:
    from t2g_ray.run.folder import RunDir

RAY_LOGS = Path("/tmp/ray/session_latest/logs")

app = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.command("eval")(model_commands.eval_command)
app.command("extract")(model_commands.extract_command)
app.command("score")(model_commands.score_command)
app.command("report")(report_command)
app.command("selftest")(selftest_command)
app.command("plan")(plan_command)
app.command("submit", context_settings={"ignore_unknown_options": True})(submit_command)
app.command("scale")(scale_command)
app.command("status")(status_command)
app.command("doctor")(doctor_command)
app.add_typer(data_app, name="data")
app.add_typer(job_app, name="job")


def main() -> None:
    """Entry point of the installed command."""
    # Their options only; what they measure is imported when one runs.
    from benchmarks.commands import bench_app

    app.add_typer(bench_app, name="bench")
    app(prog_name="t2g")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"t2g-ray {__version__}")
        raise typer.Exit


@app.callback()
def options(
    show_traceback: Annotated[
        bool,
        typer.Option("--traceback", envvar="T2G_TRACEBACK", help="Show where an error happened."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Train language models that turn text into graphs: SFT and GRPO, distributed on Ray.

    Start here: t2g doctor, then t2g demo.
    """
    load_secrets()


@app.command()
def sft(config: ConfigFile, overrides: Overrides = None) -> None:
    """Run the supervised stage: records -> a policy that knows the form of the answer.

    Example: t2g sft configs/demo_sft.yaml run_dir=runs/sft steps=500
    """
    from t2g_ray.config import SftConfig, load_config

    settings = load_config(SftConfig, config, overrides or ())
    from actors.sft import run_sft

    with notes_on_failure(*_places(settings.run_dir)):
        run = run_sft(settings)
        _check_model(run)
    typer.echo(f"model: {run.model}")


@app.command()
def grpo(config: ConfigFile, overrides: Overrides = None) -> None:
    """Run the GRPO stage: prompts -> groups -> rewards -> gradient steps, with evaluation.

    Example: t2g grpo configs/demo_grpo.yaml run_dir=runs/grpo model=runs/sft/model steps=50
    """
    from t2g_ray.cli.tables import print_result
    from t2g_ray.config import GrpoConfig, load_config
    from t2g_ray.report.demo import read_result

    settings = load_config(GrpoConfig, config, overrides or ())
    from actors.grpo import run_grpo

    with notes_on_failure(*_places(settings.run_dir)):
        run = run_grpo(settings)
        _check_model(run)
        result = read_result(run)
    print_result(result)
    typer.echo(f"model: {run.model}\nreport: {run.report_html}")


@data_app.command("generate")
def generate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Make records from texts: graphs by a teacher, filtered, varied, with reasoning if wanted.

    The same command goes on where a stopped run ended.

    Example: t2g data generate configs/demo_generate.yaml run_dir=runs/data source.name=texts.txt
    """
    from t2g_ray.cli.data_tables import print_generation
    from t2g_ray.config import load_config
    from t2g_ray.data.generate.config import GenerateConfig

    settings = load_config(GenerateConfig, config, overrides or ())
    from actors.generate import run_generate

    with notes_on_failure(*_places(settings.run_dir)):
        card = run_generate(settings)
    print_generation(card)
    if not card["records"]["records"]:
        raise ValueError(
            f"at least one record must be kept, found none; {settings.run_dir}/rejects.jsonl says "
            "why each was left out"
        )
    typer.echo(f"records: {settings.run_dir}/records.jsonl\ncard: {settings.run_dir}/card.md")


@app.command()
def demo(
    run_dir: Annotated[Path, typer.Option(help="Folder for both stages and the report.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int | None, typer.Option(help="Seed of data, SFT and GRPO.")] = None,
    overrides: Overrides = None,
) -> None:
    """Run the whole path on the embedded world: corpus, SFT, GRPO, held-out evaluation, report.

    Key=value pairs go to the GRPO stage; resume=auto continues a demo wherever it stopped.

    Example: t2g demo --run-dir runs/first --seed 1 steps=100
    """
    from t2g_ray.cli.tables import print_result
    from t2g_ray.report.demo import demo_configs, merge_results, read_result, write_result

    folder = run_dir.resolve()
    sft_settings, grpo_settings = demo_configs(folder, seed=seed, overrides=overrides or ())
    from actors.grpo import run_grpo
    from actors.sft import run_sft

    with notes_on_failure(*_places(folder)):
        started_s = time.monotonic()
        _check_model(run_sft(sft_settings))
        sft_wall_s = time.monotonic() - started_s
        run = run_grpo(grpo_settings)
        _check_model(run)
        result = merge_results(
            read_result(run),
            sft_wall_s=sft_wall_s,
            grpo_wall_s=time.monotonic() - started_s - sft_wall_s,
        )
        page = write_result(folder, result)
    print_result(result)
    typer.echo(f"model: {run.model}\nreport: {page}")


@app.command()
def serve(
    model: model_commands.Model,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    replicas: Annotated[int, typer.Option(min=1, help="Engines; one for each GPU at most.")] = 1,
    max_ongoing: Annotated[
        int, typer.Option(min=1, help="Requests that one replica works on at a time.")
    ] = 64,
    max_new_tokens: model_commands.MaxNewTokens = None,
) -> None:
    """Serve a model over HTTP, with a page to try it; Ctrl-C ends it.

    Example: t2g serve --model runs/demo/grpo/model --port 8000
    """
    # A Ray of our own then listens on the loopback interface only. Read when ray is imported.
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from actors.serve import ServeSettings, run_server

    with notes_on_failure(f"logs of the replicas: {RAY_LOGS}/serve on each node"):
        run_server(
            ServeSettings(
                model=model,
                host=host,
                port=port,
                replicas=replicas,
                max_ongoing=max_ongoing,
                max_new_tokens=max_new_tokens,
            )
        )


def _places(run_dir: Path) -> tuple[str, ...]:
    """Where to look when a run failed."""
    return (f"run folder: {run_dir}", f"logs of the actors: {RAY_LOGS} on each node")


def _check_model(run: RunDir) -> None:
    if not (run.model / "config.json").is_file():
        raise RuntimeError(f"the run must end with a model, found none in {run.model}")
