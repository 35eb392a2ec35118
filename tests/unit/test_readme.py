"""The tree in the README is the tree of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_MODULES = (
    "configs",
    "docs",
    "tests",
    "requirements",
    "benchmarks/baselines",
    "benchmarks/published",
)
IGNORED = {"__pycache__", "images"}


def tree() -> dict[str, set[str]]:
    """Folder -> modules, of the folders whose modules the README names line by line."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    found: dict[str, set[str]] = {}
    parents: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        if name.endswith("/"):
            parents = [*parents[:depth], name.rstrip("/")]
            found["/".join(parents)] = set()
        elif name.endswith(".py"):
            found["/".join(parents[:depth])].add(name.removesuffix(".py"))
        elif depth and depth <= len(parents):
            found["/".join(parents[:depth])] |= set(line.split())
    return found


def modules_of(folder: str) -> set[str]:
    return {p.stem for p in (ROOT / folder).glob("*.py") if not p.stem.startswith("__")}


def test_every_folder_of_code_is_in_the_tree() -> None:
    code = {
        str(path.relative_to(ROOT))
        for top in ("t2g_ray", "actors", "benchmarks")
        for path in [ROOT / top, *(ROOT / top).rglob("*")]
        if path.is_dir() and path.name not in IGNORED
    }
    assert tree().keys() - code == {"configs", "docs", "tests", "requirements"}
    assert code - tree().keys() == set()


@pytest.mark.parametrize("folder", sorted(tree().keys() - set(WITHOUT_MODULES)))
def test_the_tree_names_the_modules_of_a_folder(folder: str) -> None:
    assert tree()[folder] == modules_of(folder)


@pytest.mark.parametrize(("folder", "ending"), [("configs", ".yaml"), ("docs", ".md")])
def test_the_tree_names_the_configurations_and_the_pages(folder: str, ending: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.search(rf"^{folder}/ +(.+(?:\n {{10,}}.+)*)", text, flags=re.MULTILINE)
    assert lines is not None
    files = {path.name.removesuffix(ending) for path in (ROOT / folder).iterdir() if path.is_file()}
    assert set(lines[1].split()) == files


def test_what_the_tree_names_at_the_top_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    top = [line for line in block.splitlines() if not line.startswith(" ")]
    named = [word for line in top[:-1] for word in line.split()[:1]] + top[-1].split()
    assert {"Makefile", "pyproject.toml", "cluster.yaml", ".ci/run"} <= set(named)
    assert [name for name in named if not (ROOT / name).exists()] == []
