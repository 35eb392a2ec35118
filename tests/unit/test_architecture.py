"""The shape of the code: who may import whom, what stays light, and how long things may get."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from t2g_ray.config import GrpoConfig, Section, SftConfig, load_config
from t2g_ray.data.generate.config import GenerateConfig

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("t2g_ray", "actors", "benchmarks")
HEAVY = ("torch", "ray", "vllm", "transformers", "deepspeed", "datasets", "plotly", "scipy")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

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
PRODUCT = [name for name in SOURCES if not name.startswith("benchmarks")]


def parse(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def imports_below(node: ast.AST, in_function: bool = False) -> Iterator[Import]:
    """Every import that can happen at run time, with `from a import b` as `a.b`."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, in_function) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports in this project are absolute"
        yield from ((f"{node.module}.{alias.name}", in_function) for alias in node.names)
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = node.orelse
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in children:
        yield from imports_below(child, inside)


def imports_of(module: str) -> set[Import]:
    return set(imports_below(parse(module)))


def modules_imported_by(module: str) -> set[str]:
    """Modules of this project; `from package import name` counts as the module behind the name."""
    found = set()
    for name, _ in imports_of(module):
        while name and name not in SOURCES:
            name = name.rpartition(".")[0]
        found |= {name} - {"", module}
    return found


def package_of(dotted_name: str) -> str:
    return dotted_name.partition(".")[0]


def loaded_heavy_modules(statement: str) -> list[str]:
    report = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    code = f"{statement}\nimport json, sys\n{report}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout.splitlines()[-1]))


def test_the_reader_of_imports_sees_functions_and_skips_what_only_the_type_checker_reads() -> None:
    source = """
from typing import TYPE_CHECKING
import a.b
if TYPE_CHECKING:
    import never
else:
    from always import here
def f():
    from c import d
"""
    assert set(imports_below(ast.parse(source))) == {
        ("typing.TYPE_CHECKING", False),
        ("a.b", False),
        ("always.here", False),
        ("c.d", True),
    }


def test_the_library_imports_actors_only_inside_the_commands_that_launch() -> None:
    wrong = [
        (module, name)
        for module in SOURCES
        if package_of(module) == "t2g_ray"
        for name, in_function in imports_of(module)
        if package_of(name) in ("actors", "benchmarks")
        and not (module == "t2g_ray.cli.main" and in_function)
    ]
    assert wrong == []


def test_actors_do_not_import_the_command_line_or_the_benchmarks() -> None:
    wrong = [
        (module, name)
        for module in SOURCES
        if package_of(module) == "actors"
        for name in modules_imported_by(module)
        if name == "t2g_ray.cli.main" or package_of(name) == "benchmarks"
    ]
    assert wrong == []


def test_imports_form_no_cycle() -> None:
    graph = {module: modules_imported_by(module) for module in SOURCES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(f"import cycle: {' <- '.join(cycle.args[1])}")


def test_only_actors_and_benchmarks_import_ray() -> None:
    wrong = [
        (module, name)
        for module in SOURCES
        if package_of(module) == "t2g_ray"
        for name, _ in imports_of(module)
        if package_of(name) == "ray"
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["t2g_ray.config", "t2g_ray.cli.main"])
def test_what_answers_at_once_loads_nothing_heavy(module: str) -> None:
    assert loaded_heavy_modules(f"import {module}") == []


def test_the_check_for_heavy_modules_sees_one() -> None:
    assert loaded_heavy_modules("import scipy") == ["scipy"]


@pytest.mark.parametrize("module", PRODUCT)
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
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert {"demo_sft.yaml", "demo_grpo.yaml"} <= {path.name for path in paths}
    kinds: dict[str, type[Section]] = {"sft": SftConfig, "generate": GenerateConfig}
    for path in paths:
        kind = next((kinds[name] for name in kinds if name in path.stem), GrpoConfig)
        load_config(kind, path)
