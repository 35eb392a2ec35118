"""What the pages say of files is true: every path that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
FILES = {
    path.relative_to(ROOT).parts
    for top in ("t2g_ray", "actors", "benchmarks", "tests", "configs", "docs", "requirements")
    for path in (ROOT / top).rglob("*")
    if "__pycache__" not in path.parts
}
PATH = re.compile(r"`((?:[\w.]+/)*[\w]+\.(?:py|md|j2))`")
MODULE = re.compile(r"python -m ((?:t2g_ray|actors|benchmarks)[\w.]*)")


def is_there(name: str) -> bool:
    """Whether one file's path ends like this: `grpo/loop.py` is t2g_ray/grpo/loop.py."""
    parts = tuple(name.split("/"))
    return any(path[-len(parts) :] == parts for path in FILES) or (ROOT / name).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_and_modules_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [name for name in PATH.findall(text) if not is_there(name)] == []
    modules = [name.replace(".", "/") for name in MODULE.findall(text)]
    missing = [m for m in modules if not (is_there(f"{m}.py") or is_there(f"{m}/__main__.py"))]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_a_file_that_is_not_there_is_found() -> None:
    assert is_there("grpo/loop.py") and is_there("loop.py")
    assert not is_there("grpo/loops.py") and not is_there("sft/loop.py")
