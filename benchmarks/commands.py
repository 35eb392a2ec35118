"""`t2g bench ...`: options -> a benchmark's rows -> table, JSON and exit code.

What is measured is imported inside the commands, so that --help responds at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.inputs.policy import PolicySource, measured_config, trained_model
from benchmarks.result import ResultRow, report

if TYPE_CHECKING:
    from t2g_ray.config import GrpoConfig

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure this machine; medians of alternating runs."
)

Runs = Annotated[int, typer.Option(min=1, help="How many times everything is repeated.")]
Steps = Annotated[int, typer.Option(min=1, help="Counted steps of a run.")]
Staleness = Annotated[str, typer.Option(help="Values of max_staleness, separated by commas.")]

CONFIG = ("config", "overrides")
MODEL = ("model", "cache", "policy_steps")
DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo_grpo.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOptions:
    """The options that most benchmarks have."""

    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Override keys, such as rollout.threads=2."),
    ] = None
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this JSON file.")
    ] = None
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit with 1 where a row is outside baselines/limits.json."),
    ] = False
    model: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Policy to measure with; without it the embedded default's SFT makes one, once.",
        ),
    ] = None
    cache: Annotated[
        Path, typer.Option(help="Folder for that policy and for runs that are measured.")
    ] = Path("runs/bench")
    policy_steps: Annotated[
        int | None, typer.Option(min=1, help="SFT steps of that policy; default as in the demo.")
    ] = None
    config: Annotated[
        Path,
        typer.Option(
            help="GRPO configuration that sets all sizes.", show_default="configs/demo_grpo.yaml"
        ),
    ] = DEMO

    @property
    def policy(self) -> PolicySource:
        """The model to measure with."""
        return PolicySource(model=self.model, cache=self.cache, steps=self.policy_steps)

    def settings(self, *, is_trained: bool = True) -> GrpoConfig:
        """The configuration to measure; where not `is_trained` only sizes matter."""
        overrides = self.overrides or ()
        from t2g_ray.config import check_set_once

        check_set_once(overrides)
        return measured_config(self.policy, self.config, overrides, is_trained=is_trained)


Measure = Callable[..., Sequence[ResultRow]]


def _bench(*, without: Collection[str] = ()) -> Callable[[Measure], Measure]:
    """Turn `measure(shared, *, own options) -> rows` into a command with its name and docstring.

    `without` names the shared options that would have no effect on it.
    """

    def register(measure: Measure) -> Measure:
        name = measure.__name__
        common = signature(SharedOptions, eval_str=True).parameters
        shared = [option for option in common.values() if option.name not in without]
        own = list(signature(measure, eval_str=True).parameters.values())[1:]

        def command(**options: Any) -> None:
            given = SharedOptions(**{option.name: options.pop(option.name) for option in shared})
            line = shlex.join(["t2g", *sys.argv[1:]])
            verdicts = report(name, measure(given, **options), line, given.json_out)
            if given.check and any(verdict.is_ok is False for verdict in verdicts):
                raise typer.Exit(1)

        # Typer makes the options of a command from its signature.
        named = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in (*shared, *own)]
        command.__signature__ = Signature(named)  # type: ignore[attr-defined]
        bench_app.command(name, help=measure.__doc__)(command)
        return measure

    return register


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"whole numbers with commas between them must be given, found {text!r}")
    return [int(part) for part in parts]


@_bench()
def rollout(
    shared: SharedOptions,
    runs: Runs = 5,
    calls: Annotated[int, typer.Option(min=1, help="Steps' worth of prompts a run.")] = 4,
) -> Sequence[ResultRow]:
    """Generated tokens a second: a rollout actor against vLLM called directly."""
    settings = shared.settings()
    from benchmarks.speed import rollout as bench

    return bench.run(settings, runs=runs, calls=calls)


@_bench()
def rewards(
    shared: SharedOptions,
    runs: Runs = 5,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of the run that gives their share; 0: no run.")
    ] = 10,
) -> Sequence[ResultRow]:
    """Completions graded a second by one thread, and the share of a GRPO step that this is."""
    settings = shared.settings(is_trained=steps > 0)
    from benchmarks.speed import rewards as bench

    rows = bench.run(settings, runs=runs)
    return [*rows, bench.share_of_step(settings, steps=steps)] if steps else rows


@_bench(without=MODEL)
def sync(
    shared: SharedOptions,
    runs: Runs = 5,
    sizes: Annotated[
        str, typer.Option(help="Random models to send: demo, 10m, 100m, 500m parameters.")
    ] = "demo,10m,100m,500m",
) -> Sequence[ResultRow]:
    """Learner tensors to loaded sampler: bytes a second, messages, and where the time goes."""
    settings = shared.settings(is_trained=False)
    from benchmarks.speed import sync as bench

    return bench.run(settings, runs=runs, sizes=[size.strip() for size in sizes.split(",")])


@_bench(without=("policy_steps",))
def learner(shared: SharedOptions, runs: Runs = 5, steps: Steps = 5) -> Sequence[ResultRow]:
    """Tokens a second of the optimiser step in both layouts, padding, share of the peak."""
    settings = shared.settings(is_trained=False)
    from benchmarks.speed import learner as bench

    return bench.run(settings, runs=runs, steps=steps)


@_bench()
def loop(
    shared: SharedOptions,
    runs: Runs = 3,
    steps: Steps = 40,
    staleness: Staleness = "1,2",
    fixed: Annotated[
        bool, typer.Option(help="Also run with completions of one fixed length.")
    ] = True,
    f1_steps: Annotated[
        int, typer.Option(min=0, help="Steps of the runs compared at equal F1; 0: none.")
    ] = 150,
    f1_every: Annotated[int, typer.Option(min=2, help="Steps between their evaluations.")] = 10,
) -> Sequence[ResultRow]:
    """Whole GRPO runs, synchronous and asynchronous: wall-clock, idle shares, equal F1."""
    settings = shared.settings()
    from benchmarks.speed import loop as bench

    return bench.run(
        settings,
        runs=runs,
        steps=steps,
        modes=bench.modes_of(_numbers(staleness), with_fixed=fixed),
        f1_steps=f1_steps,
        f1_every=f1_every,
    )


@_bench()
def peers(
    shared: SharedOptions,
    runs: Runs = 3,
    steps: Steps = 20,
    staleness: Staleness = "0,1",
    trl_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of TRL; all cores by default.")
    ] = None,
) -> Sequence[ResultRow]:
    """Completions consumed a second, against TRL's GRPOTrainer on the same work."""
    settings = shared.settings()
    from benchmarks.peers import compare as bench

    return bench.run(
        settings, runs=runs, steps=steps, staleness=_numbers(staleness), trl_threads=trl_threads
    )


@_bench(without=MODEL)
def scale(
    shared: SharedOptions,
    runs: Runs = 3,
    sizes: Annotated[str, typer.Option(help="Numbers of rollout actors.")] = "1,4,16,64",
    group_s: Annotated[float, typer.Option(min=0.001, help="Seconds of a simulated group.")] = 0.5,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of an actor and a step.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of a run.")] = 5,
) -> Sequence[ResultRow]:
    """1 to 64 rollout actors of known speed: what arrives, and what the driver pays a group."""
    settings = shared.settings(is_trained=False)
    from benchmarks.speed import scale as bench

    return bench.run(
        settings,
        runs=runs,
        sizes=_numbers(sizes),
        group_s=group_s,
        prompts_per_actor=prompts,
        rounds=rounds,
    )


@_bench(without=CONFIG)
def serve(
    shared: SharedOptions,
    runs: Runs = 3,
    clients: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each run.")] = 160,
) -> Sequence[ResultRow]:
    """Requests a second of `t2g serve`, and their latency, against vLLM called directly."""
    model = trained_model(shared.policy)
    from benchmarks.speed import serve as bench

    return bench.run(model, runs=runs, clients=clients, requests=requests)
