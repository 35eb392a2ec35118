"""Several runs side by side: a page that is safe, and the command that writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from t2g_ray.cli.main import app
from t2g_ray.report import write_comparison
from t2g_ray.report.comparison_page import render
from t2g_ray.report.load import RunData
from t2g_ray.report.runs import summary
from tests.unit.report.parts import run_data, step


def page_without_plotly(runs: list[RunData]) -> str:
    page = render(runs, summary(runs))
    return re.sub(r"<script>\s*/\*\*\s*\* plotly.*?</script>", "", page, flags=re.DOTALL)


def test_the_page_shows_figures_changes_and_settings() -> None:
    page = page_without_plotly([run_data("a"), run_data("b", config_text="steps: 3\n")])
    assert "Comparison of 2 runs" in page
    assert "50.0 \u2192 80.0" in page and "best 80.0 at step 2" in page
    assert "Entity F1, exact: last, against the first run" in page
    assert "+0.0" in page
    assert "learner.ranks" in page
    assert "run_dir</td>" not in page


def test_the_page_is_safe_and_needs_no_other_host() -> None:
    attack = "<script>alert('x')</script>"
    page = page_without_plotly([run_data(attack, config_text=f"model: {attack!r}"), run_data("b")])
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|\bsrc=|<link|@import|url\((?!#)", page)
    assert "<script>alert(" not in page
    assert "&lt;script&gt;alert(" in page


def test_runs_without_a_line_give_a_page_too(tmp_path: Path) -> None:
    empty = {"metrics": [], "evals": [], "config_text": "", "notes": ("nothing yet",)}
    page = tmp_path / "deep" / "both.html"
    write_comparison([run_data("a", **empty), run_data("b", **empty)], page)
    assert "a: nothing yet" in page.read_text()
    assert json.loads((tmp_path / "deep" / "both.json").read_text())["config"] == {}


def test_the_command_compares_runs_and_demos(tmp_path: Path) -> None:
    for name, steps in (("one", 1), ("two/grpo", 2)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"steps: {steps}\n")
        lines = [json.dumps(step(number)) + "\n" for number in range(1, steps + 1)]
        (folder / "metrics.jsonl").write_text("".join(lines))
    out = tmp_path / "both.html"
    command = ["report", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(out)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    figures = json.loads(out.with_suffix(".json").read_text())
    assert {name: run["steps"] for name, run in figures["runs"].items()} == {"one": 1, "two": 2}
    assert figures["config"] == {"steps": {"one": 1, "two": 2}}
