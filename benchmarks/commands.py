"""`t2g bench ...`: options -> a benchmark's rows -> table, JSON and exit code.

What is measured is imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.result import Row
    from t2g_ray.config import GrpoConfig

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure this machine; medians of alternating runs."
)

JsonOut = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON here.")]
Check = Annotated[
    bool, typer.Option("--check", help="Exit with 1 where a row is outside baselines/limits.json.")
]
Runs = Annotated[int, typer.Option(min=1, help="How often everything is repeated.")]
Model = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Policy to measure with; without it the embedded default's SFT makes one, once.",
    ),
]
Cache = Annotated[Path, typer.Option(help="Folder for that policy and for runs that are measured.")]
PolicySteps = Annotated[
    int | None, typer.Option(min=1, help="SFT steps of that policy; default as in the demo.")
]
ConfigFile = Annotated[
    Path,
    typer.Option(
        help="GRPO configuration that sets all sizes.", show_default="configs/demo_grpo.yaml"
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Override keys, as in rollout.threads=2."),
]
Steps = Annotated[int, typer.Option(min=1, help="Counted steps of a run.")]
Staleness = Annotated[str, typer.Option(help="Values of max_staleness, with commas between them.")]

CACHE = Path("runs/bench")
DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo_grpo.yaml"


def _config(
    model: Path | None,
    cache: Path,
    policy_steps: int | None,
    config: Path,
    overrides: list[str] | None,
    *,
    is_trained: bool = True,
) -> GrpoConfig:
    from benchmarks.policy import Policy, measured_config

    policy = Policy(model=model, cache=cache, steps=policy_steps)
    return measured_config(policy, config, overrides or (), is_trained=is_trained)


def _finish(bench: str, rows: Sequence[Row], json_out: Path | None, is_checked: bool) -> None:
    from benchmarks.result import report

    verdicts = report(bench, rows, json_out)
    if is_checked and any(verdict.is_ok is False for verdict in verdicts):
        raise typer.Exit(1)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"whole numbers with commas between them must be given, found {text!r}")
    return [int(part) for part in parts]


@bench_app.command()
def rollout(
    overrides: Overrides = None,
    json_out: JsonOut = None,
    check: Check = False,
    runs: Runs = 5,
    model: Model = None,
    cache: Cache = CACHE,
    policy_steps: PolicySteps = None,
    config: ConfigFile = DEMO,
    calls: Annotated[int, typer.Option(min=1, help="Steps' worth of prompts a run.")] = 4,
) -> None:
    """Generated tokens a second: a rollout actor against vLLM called directly."""
    settings = _config(model, cache, policy_steps, config, overrides)
    from benchmarks import rollout as bench

    _finish("rollout", bench.run(settings, runs=runs, calls=calls), json_out, check)


@bench_app.command()
def rewards(
    overrides: Overrides = None,
    json_out: JsonOut = None,
    check: Check = False,
    runs: Runs = 5,
    model: Model = None,
    cache: Cache = CACHE,
    policy_steps: PolicySteps = None,
    config: ConfigFile = DEMO,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of the run that gives their share; 0: no run.")
    ] = 10,
) -> None:
    """Completions graded a second by one thread, and the share of a GRPO step that this is."""
    settings = _config(model, cache, policy_steps, config, overrides, is_trained=steps > 0)
    from benchmarks import rewards as bench

    rows = bench.run(settings, runs=runs)
    if steps:
        rows.append(bench.share_of_step(settings, steps=steps))
    _finish("rewards", rows, json_out, check)


@bench_app.command()
def sync(
    overrides: Overrides = None,
    json_out: JsonOut = None,
    check: Check = False,
    runs: Runs = 5,
    config: ConfigFile = DEMO,
    sizes: Annotated[
        str, typer.Option(help="Random models to send: demo, 10m, 100m, 500m parameters.")
    ] = "demo,10m,100m,500m",
) -> None:
    """Learner tensors to loaded sampler: bytes a second, messages, and where the time goes."""
    settings = _config(None, CACHE, None, config, overrides, is_trained=False)
    from benchmarks import sync as bench

    chosen = [size.strip() for size in sizes.split(",")]
    _finish("sync", bench.run(settings, runs=runs, sizes=chosen), json_out, check)


@bench_app.command()
def learner(
    overrides: Overrides = None,
    json_out: JsonOut = None,
    check: Check = False,
    runs: Runs = 5,
    model: Model = None,
    cache: Cache = CACHE,
    config: ConfigFile = DEMO,
    steps: Steps = 5,
) -> None:
    """Tokens a second of the optimiser step in both layouts, padding, share of the peak."""
    settings = _config(model, cache, None, config, overrides, is_trained=False)
    from benchmarks import learner as bench

    _finish("learner", bench.run(settings, runs=runs, steps=steps), json_out, check)


@bench_app.command()
def loop(
    overrides: Overrides = None,
    json_out: JsonOut = None,
    check: Check = False,
    runs: Runs = 3,
    model: Model = None,
    cache: Cache = CACHE,
    policy_steps: PolicySteps = None,
    config: ConfigFile = DEMO,
    steps: Steps = 40,
    staleness: Staleness = "1,2",
    fixed: Annotated[
        bool, typer.Option(help="Also run with completions of one fixed length.")
    ] = True,
    f1_steps: Annotated[
        int, typer.Option(min=0, help="Steps of the runs compared at equal F1; 0: none.")
    ] = 150,
    f1_every: Annotated[int, typer.Option(min=2, help="Steps between their evaluations.")] = 10,
) -> None:
    """Whole GRPO runs, synchronous and asynchronous: wall-clock, idle shares, equal F1."""
    settings = _config(model, cache, policy_steps, config, overrides)
    from benchmarks import loop as bench

    rows = bench.run(
        settings,
        runs=runs,
        steps=steps,
        modes=bench.modes_of(_numbers(staleness), with_fixed=fixed),
        f1_steps=f1_steps,
        f1_every=f1_every,
    )
    _finish("loop", rows, json_out, check)


@bench_app.command()
def peers(
    overrides: Overrides = None,
    json_out: JsonOut = None,
    check: Check = False,
    runs: Runs = 3,
    model: Model = None,
    cache: Cache = CACHE,
    policy_steps: PolicySteps = None,
    config: ConfigFile = DEMO,
    steps: Steps = 20,
    staleness: Staleness = "0,1",
    trl_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of TRL; all cores by default.")
    ] = None,
) -> None:
    """Completions consumed a second, against TRL's GRPOTrainer on the same work."""
    settings = _config(model, cache, policy_steps, config, overrides)
    from benchmarks import peers as bench

    rows = bench.run(
        settings,
        runs=runs,
        steps=steps,
        staleness=_numbers(staleness),
        trl_threads=trl_threads,
    )
    _finish("peers", rows, json_out, check)


@bench_app.command()
def scale(
    overrides: Overrides = None,
    json_out: JsonOut = None,
    check: Check = False,
    runs: Runs = 3,
    config: ConfigFile = DEMO,
    sizes: Annotated[str, typer.Option(help="Numbers of rollout actors.")] = "1,4,16,64",
    group_s: Annotated[float, typer.Option(min=0.001, help="Seconds of a simulated group.")] = 0.5,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of waiting a run.")] = 20,
) -> None:
    """1 to 64 rollout actors of known speed: what arrives, and what the driver pays a group."""
    settings = _config(None, CACHE, None, config, overrides, is_trained=False)
    from benchmarks import scale as bench

    rows = bench.run(settings, runs=runs, sizes=_numbers(sizes), group_s=group_s, rounds=rounds)
    _finish("scale", rows, json_out, check)
