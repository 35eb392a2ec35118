"""The shape of the code: its floors, who may import whom, what stays light, how long things get."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from t2g_ray import types
from t2g_ray.config import GrpoConfig, Section, SftConfig, load_config
from t2g_ray.data.generate.config import GenerateConfig

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("t2g_ray", "actors", "benchmarks")
HEAVY = ("torch", "ray", "vllm", "transformers", "deepspeed", "datasets", "plotly", "scipy")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 55
MAX_MODULES = 9
"""Of one folder, at one level."""

FLOORS: tuple[tuple[str, ...], ...] = (
    ("t2g_ray.cli",),
    ("benchmarks",),
    ("actors",),
    ("t2g_ray.report",),
    ("t2g_ray.evaluation", "t2g_ray.data", "t2g_ray.serving", "t2g_ray.sft", "t2g_ray.planning"),
    ("t2g_ray.rewards", "t2g_ray.grpo", "t2g_ray.rollout", "t2g_ray.learner"),
    ("t2g_ray.prompts", "t2g_ray.model"),
    ("t2g_ray.records", "t2g_ray.algorithm"),
    ("t2g_ray.types", "t2g_ray.config"),
    ("t2g_ray.graph", "t2g_ray.run", "t2g_ray.weights"),
    ("t2g_ray.vllm_private",),
    ("t2g_ray",),
)
"""From the top. A unit imports from the floors below its own and from nowhere else."""

REMOTE_CALLERS = {
    "actors.cluster.handles": "every call to an actor of a run",
    "actors.cluster.start": "starts the actors",
    "actors.cluster.placement": "a task on each node, before there are actors",
    "actors.cluster.reservation": "a task in each bundle, before there are actors",
    "actors.generate": "Ray Data makes the actors and hands them this handle",
    "actors.serve": "Ray Serve's own handles",
}
"""The modules that may call `.remote`, and what for."""

Import = tuple[str, bool]
"""Dotted name of what is imported, and whether a function has to run first."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
FOLDERS = sorted({path.parent for path in SOURCES.values()})


def parse(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def imports_below(node: ast.AST, in_function: bool = False) -> Iterator[Import]:
    """Every import, with `from a import b` as `a.b`; what only the type checker reads counts."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, in_function) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports in this project are absolute"
        yield from ((f"{node.module}.{alias.name}", in_function) for alias in node.names)
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from imports_below(child, inside)


def imports_of(module: str) -> set[Import]:
    return set(imports_below(parse(module)))


IMPORTS = {module: imports_of(module) for module in SOURCES}


def home_of(dotted_name: str) -> str | None:
    """The module of this project that holds a name; None for names of others."""
    while dotted_name and dotted_name not in SOURCES:
        dotted_name = dotted_name.rpartition(".")[0]
    return dotted_name or None


def modules_imported_by(module: str) -> set[str]:
    homes = (home_of(name) for name, _ in IMPORTS[module])
    return {home for home in homes if home is not None and home != module}


def unit_of(module: str) -> str:
    """The part of FLOORS that a module belongs to."""
    head, _, rest = module.partition(".")
    return f"t2g_ray.{rest.partition('.')[0]}" if head == "t2g_ray" and rest else head


FLOOR_OF = {unit: number for number, floor in enumerate(FLOORS) for unit in floor}


def arrows_up(edges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those imports (who, what) that leave a unit and do not go down."""
    return [
        (who, what)
        for who, what in edges
        if unit_of(who) != unit_of(what) and FLOOR_OF[unit_of(who)] >= FLOOR_OF[unit_of(what)]
    ]


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        return list(cycle.args[1])
    return []


def loaded_heavy_modules(statement: str) -> list[str]:
    report = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    code = f"{statement}\nimport json, sys\n{report}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout.splitlines()[-1]))


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = """
from typing import TYPE_CHECKING
import a.b
if TYPE_CHECKING:
    from checked import only
def f():
    from c import d
"""
    assert set(imports_below(ast.parse(source))) == {
        ("typing.TYPE_CHECKING", False),
        ("a.b", False),
        ("checked.only", False),
        ("c.d", True),
    }


def test_every_module_stands_on_a_floor_and_every_floor_holds_modules() -> None:
    assert {unit_of(module) for module in SOURCES} == set(FLOOR_OF)


def test_imports_go_down_and_never_back_up() -> None:
    edges = [(who, what) for who in SOURCES for what in modules_imported_by(who)]
    assert arrows_up(edges) == []


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("t2g_ray.graph.parsing", "t2g_ray.types"),
        ("t2g_ray.grpo.loop", "actors.stages.groups"),
        ("t2g_ray.rewards.group", "t2g_ray.grpo.stages"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(who: str, what: str) -> None:
    assert arrows_up([(who, what), (what, "t2g_ray.graph.graph")]) == [(who, what)]


@pytest.mark.parametrize("folder", FOLDERS, ids=module_name)
def test_the_modules_and_subfolders_of_a_folder_know_no_circle(folder: Path) -> None:
    prefix = f"{module_name(folder)}."
    graph: dict[str, set[str]] = {}
    for module in SOURCES:
        if module.startswith(prefix):
            inside = {m for m in modules_imported_by(module) if m.startswith(prefix)}
            box = module.removeprefix(prefix).partition(".")[0]
            boxes = {m.removeprefix(prefix).partition(".")[0] for m in inside}
            graph.setdefault(box, set()).update(boxes - {box})
    assert cycle_in(graph) == []


def test_a_circle_of_modules_is_found() -> None:
    assert set(cycle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize("folder", FOLDERS, ids=module_name)
def test_a_folder_holds_few_modules(folder: Path) -> None:
    modules = sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("__"))
    assert len(modules) <= MAX_MODULES, modules


def test_only_actors_import_ray() -> None:
    wrong = [
        (module, name)
        for module in SOURCES
        if module.partition(".")[0] != "actors"
        for name, _ in IMPORTS[module]
        if name.partition(".")[0] == "ray"
    ]
    assert wrong == []


def test_the_command_line_reaches_actors_and_benchmarks_only_when_a_command_runs() -> None:
    wrong = [
        (module, name)
        for module in SOURCES
        if unit_of(module) == "t2g_ray.cli"
        for name, in_function in IMPORTS[module]
        if name.partition(".")[0] in ("actors", "benchmarks") and not in_function
    ]
    assert wrong == []


def test_actors_are_called_through_typed_handles_alone() -> None:
    callers = {
        module
        for module in SOURCES
        for node in ast.walk(parse(module))
        if isinstance(node, ast.Attribute) and node.attr == "remote"
    }
    assert callers - {"actors.workers.reward"} == REMOTE_CALLERS.keys()  # there it makes the class


def test_everything_that_flows_is_a_frozen_dataclass() -> None:
    flowing = [one for one in vars(types).values() if isinstance(one, type)]
    own = [one for one in flowing if one.__module__ == types.__name__]
    assert {"Record", "Prompt", "Group", "ScoredGroup", "Sample", "StepReport"} <= {
        one.__name__ for one in own
    }
    assert [one for one in own if not one.__dataclass_params__.frozen] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["t2g_ray.config", "t2g_ray.graph", "t2g_ray.cli.main"])
def test_what_answers_at_once_loads_nothing_heavy(module: str) -> None:
    assert loaded_heavy_modules(f"import {module}") == []


def test_the_check_for_heavy_modules_sees_one() -> None:
    assert loaded_heavy_modules("import scipy") == ["scipy"]


@pytest.mark.parametrize("module", SOURCES)
def test_files_and_functions_stay_short(module: str) -> None:
    length = len(SOURCES[module].read_text(encoding="utf-8").splitlines())
    assert length <= MAX_FILE_LINES, f"{SOURCES[module]} has {length} lines"
    long_functions = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(parse(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert long_functions == {}


def test_every_configuration_in_the_repository_loads() -> None:
    others = {"kuberay.yaml"}  # of Kubernetes, see tests/unit/configs
    paths = [p for p in sorted((ROOT / "configs").rglob("*.yaml")) if p.name not in others]
    assert {"demo_sft.yaml", "demo_grpo.yaml"} <= {path.name for path in paths}
    kinds: dict[str, type[Section]] = {"sft": SftConfig, "generate": GenerateConfig}
    for path in paths:
        kind = next((kinds[name] for name in kinds if name in path.stem), GrpoConfig)
        load_config(kind, path)
