"""The options that benchmarks share, and how `measure(options) -> rows` becomes a command.

A command prints its rows, writes them, and with `--check` ends with 1 unless there are limits for
exactly what was asked for and every one is met.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.inputs.policy import (
    PolicySource,
    measured_config,
    policy_name,
    set_values,
    trained_model,
)
from benchmarks.limits import BASELINES, Case, Verdict, judge, read_cases
from benchmarks.result import ROOT, Result, ResultRow, read_result, result_of, to_json
from benchmarks.tables import print_result
from t2g_ray.records.outputs import check_outputs, write_figures

if TYPE_CHECKING:
    from t2g_ray.config import GrpoConfig

bench_app = typer.Typer(
    no_args_is_help=True,
    help="Measure this machine; medians of alternating runs.",
)

CONFIG = ("config", "overrides")
MODEL = ("model", "cache", "policy_steps")
DEMO = ROOT / "configs" / "demo_grpo.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOptions:
    """The options that most benchmarks have."""

    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...",
            help="A configuration in place of --config; keys to override, as in rollout.threads=2.",
        ),
    ] = None
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this JSON file.")
    ] = None
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 1 unless baselines/limits.json has limits for this command, with a "
            "baseline of an earlier commit where one is needed, and all are met.",
        ),
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

    def settings_of_run(self) -> GrpoConfig:
        """The configuration as `t2g grpo` runs it, with its own folder and its own model; the
        demo's default lies below the cache and gets the policy that other benchmarks measure.
        """
        overrides = list(self.overrides or ())
        from t2g_ray.config import GrpoConfig, check_set_once, load_config

        check_set_once(overrides)
        if self.config == DEMO and not any(one.startswith("model=") for one in overrides):
            overrides.insert(0, f"model={trained_model(self.policy)}")
            overrides.insert(0, f"run_dir={self.policy.cache.resolve() / 'sweep'}")
        elif self.model is not None:
            overrides.insert(0, f"model={self.model.resolve()}")
        return load_config(GrpoConfig, self.config, overrides)


Measure = Callable[..., Sequence[ResultRow]]
Finish = Callable[[Result, SharedOptions], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A registered benchmark."""

    name: str
    measure: Measure
    without: Collection[str]
    finish: Finish | None = None
    """What is left to do once the result is there."""

    def split(self, options: Mapping[str, Any]) -> tuple[SharedOptions, dict[str, Any]]:
        """The shared options and the benchmark's own."""
        names = set(signature(SharedOptions).parameters)
        shared = {key: value for key, value in options.items() if key in names}
        own = {key: value for key, value in options.items() if key not in names}
        return SharedOptions(**_with_config(shared)), own

    def settings(self, given: SharedOptions, own: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked for: equal for two command lines that ask for the same."""
        told = {key: value for key, value in own.items() if key != "runs"}
        if "config" not in self.without:
            # Marked: an option of the benchmark and a key may have one name, such as steps.
            pairs = (one.partition("=") for one in given.overrides or ())
            told |= {f"set {key.strip()}": value.strip() for key, _, value in pairs}
            told["config"] = _from_root(given.config)
        if "model" not in self.without:
            told["policy"] = policy_name(given.policy)
        return dict(json.loads(json.dumps(told, default=str)))

    def run(self, options: Mapping[str, Any]) -> None:
        """Measure, print, write, and check where that was asked for."""
        given, own = self.split(options)
        check_outputs({"--json": given.json_out}, [given.config, given.model])
        result = result_of(
            self.name,
            self.measure(given, **own),
            command=shlex.join(["t2g", *sys.argv[1:]]),
            settings=self.settings(given, own),
            config={} if "config" in self.without else set_values(given.config, given.overrides),
        )
        case = case_of(result)
        verdicts = verdicts_of(result, case) if case else []
        print_result(result, verdicts)
        if given.json_out is not None:
            write_figures(given.json_out, to_json(result))
        if self.finish is not None:
            self.finish(result, given)
        if given.check and case is None:
            typer.echo(_without_limits(self.name), err=True)
        if given.check and not (verdicts and all(verdict.is_met for verdict in verdicts)):
            raise typer.Exit(1)


BENCHES: dict[str, Bench] = {}


def _with_config(shared: Mapping[str, Any]) -> dict[str, Any]:
    """The shared options with a configuration that stands before the overrides in its place."""
    first, *rest = shared.get("overrides") or [""]
    if not first or "=" in first or "config" not in shared:
        return dict(shared)
    if shared["config"] != DEMO:
        raise ValueError(f"one configuration must be given, found {shared['config']} and {first}")
    return {**shared, "config": Path(first), "overrides": rest or None}


def bench(
    *, without: Collection[str] = (), finish: Finish | None = None
) -> Callable[[Measure], Measure]:
    """Turn `measure(shared, *, own options) -> rows` into a command with its name and docstring.

    `without` names the shared options that would have no effect on it; `finish` gets the result.
    """

    def register(measure: Measure) -> Measure:
        registered = Bench(name=measure.__name__, measure=measure, without=without, finish=finish)
        BENCHES[registered.name] = registered
        common = signature(SharedOptions, eval_str=True).parameters
        shared = [option for option in common.values() if option.name not in without]
        own = list(signature(measure, eval_str=True).parameters.values())[1:]

        def command(**options: Any) -> None:
            registered.run(options)

        # Typer makes the options of a command from its signature.
        named = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in (*shared, *own)]
        command.__signature__ = Signature(named)  # type: ignore[attr-defined]
        bench_app.command(registered.name, help=measure.__doc__)(command)
        return measure

    return register


def settings_asked_for(command: str) -> tuple[str, dict[str, Any]]:
    """A command line, "t2g bench X ..." -> X and its settings, without measuring anything."""
    _, _, name, *arguments = shlex.split(command)
    parser: Any = typer.main.get_command(bench_app)
    options = parser.commands[name].make_context(name, arguments).params
    paths = {key: Path(options[key]) for key in ("model", "cache", "config") if options.get(key)}
    registered = BENCHES[name]
    return name, registered.settings(*registered.split({**options, **paths}))


def case_of(result: Result) -> Case | None:
    """The case whose command asks for what the result was asked for."""
    wanted = (result.bench, dict(result.settings))
    cases = read_cases().values()
    return next((case for case in cases if settings_asked_for(case.command) == wanted), None)


def verdicts_of(result: Result, case: Case) -> list[Verdict]:
    """The result against the case's limits and its baseline, where there is one."""
    path = BASELINES / f"{case.name}.json"
    return judge(result, case, read_result(path) if path.is_file() else None)


def _without_limits(name: str) -> str:
    lines = [case.command for case in read_cases().values() if f" {name}" in case.command]
    return "\n".join(
        [f"there must be limits for these options, found none; limits of {name} are for:", *lines]
    )


def _from_root(path: Path) -> str:
    whole = path.resolve()
    return str(whole.relative_to(ROOT)) if whole.is_relative_to(ROOT) else str(whole)
