"""Several runs side by side: figures by hand, curves of one style a run, a page that is safe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from t2g_ray.cli.main import app
from t2g_ray.report import write_comparison
from t2g_ray.report.comparison_page import render
from t2g_ray.report.load import RunData
from t2g_ray.report.overlay import overlaid_figures
from t2g_ray.report.runs import Course, config_differences, distinct_names, figures_of, summary

FOUND, MISSED = [1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]


def step(number: int, **values: float) -> dict[str, float | None]:
    line = {"step": number, "time_s": 2.0 * number, "tokens/prompt": 10, "tokens/trained": 30}
    return {**line, "tokens/generated": 40, "reward/mean": 1.0, **values}


def evaluation(number: int, f1: float, by_record: list[list[int]]) -> dict[str, Any]:
    return {
        "step": number,
        "split": "heldout",
        "f1/entities": f1,
        "f1/relations": f1 / 2,
        "by_record": by_record,
    }


def run_data(name: str, **parts: Any) -> RunData:
    evals = [evaluation(0, 0.5, [FOUND, MISSED]), evaluation(2, 0.8, [FOUND, FOUND])]
    given: dict[str, Any] = {
        "summary": {},
        "metrics": [step(1), step(2)],
        "evals": evals,
        "samples": [],
        "config_text": f"run_dir: runs/{name}\nsteps: 2\nlearner:\n  ranks: 1\n",
        "notes": (),
        **parts,
    }
    return RunData(name=name, **given)


def test_names_are_the_shortest_that_tell_runs_apart(tmp_path: Path) -> None:
    assert distinct_names([tmp_path / "a", tmp_path / "deep" / "b"]) == ["a", "b"]
    both = [tmp_path / "one" / "grpo", tmp_path / "two" / "grpo"]
    assert distinct_names(both) == ["one/grpo", "two/grpo"]
    with pytest.raises(ValueError, match="each run must be given once"):
        distinct_names([tmp_path / "a", tmp_path / "b" / ".." / "a"])


def test_figures_are_first_last_and_best_with_its_step_and_what_the_run_took() -> None:
    evals = [evaluation(0, 0.5, []), evaluation(5, 0.9, []), evaluation(9, 0.8, [])]
    other_split = {**evaluation(9, 1.0, []), "split": "heldout_names"}
    run = run_data("a", evals=[*evals, other_split])
    figures = figures_of(run, run)
    best = Course(start=0.5, end=0.8, best=0.9, best_step=5)
    assert figures.held_out["f1/entities"] == best
    assert figures.held_out["f1/mean"].end == pytest.approx(0.6)
    assert "json_valid_rate" not in figures.held_out
    assert (figures.steps, figures.wall_s) == (2, 4.0)
    assert (figures.generated_tokens, figures.trained_tokens) == (80, 60)
    assert figures.tokens_per_s == (20 + 60) / 4
    assert figures.change == {}


def test_the_best_loss_is_the_lowest() -> None:
    evals = [{"step": s, "split": "heldout", "loss": loss} for s, loss in ((0, 3.0), (5, 1.0))]
    run = run_data("sft", evals=[*evals, {"step": 9, "split": "heldout", "loss": 2.0}])
    assert figures_of(run, run).held_out == {
        "loss": Course(start=3.0, end=2.0, best=1.0, best_step=5)
    }


def test_training_figures_are_means_of_ten_steps() -> None:
    run = run_data("a", metrics=[step(n, **{"reward/mean": float(n)}) for n in range(1, 21)])
    course = figures_of(run, run).training["reward/mean"]
    # Means of 1 to 10 and of 11 to 20.
    assert course == Course(start=5.5, end=15.5, best=15.5, best_step=20)


def test_runs_on_the_same_records_are_paired_and_others_are_not() -> None:
    first = run_data("a", evals=[evaluation(2, 0.5, [FOUND, MISSED] * 10)])
    better = run_data("b", evals=[evaluation(2, 1.0, [FOUND] * 20)])
    change = figures_of(better, first).change["f1/entities"]
    assert change["difference"] == 0.5
    # 20 draws of records of which half were missed: 2/3 -> 1 by the counts, spread around 1/3.
    low, high = change["interval"]
    assert 0 < low < 1 / 3 < high < 1
    twice = [2, 0, 0, 1, 0, 0]
    elsewhere = run_data("c", evals=[evaluation(2, 1.0, [FOUND] * 19 + [twice])])
    assert figures_of(elsewhere, first).change == {}
    assert figures_of(run_data("d", evals=[]), first).change == {}


def test_settings_are_shown_where_they_differ_and_only_there() -> None:
    first = run_data("a")
    other = run_data("b", config_text="steps: 3\nlearner:\n  ranks: 1\nseed: 7\nresume: auto\n")
    assert config_differences([first, other]) == {"steps": [2, 3], "seed": [None, 7]}
    assert config_differences([first, run_data("c")]) == {}


def test_a_run_has_one_style_and_one_entry_of_the_legend_in_each_figure() -> None:
    metrics = [step(n, **{"f1/entities": 0.5}) for n in (1, 2)]
    runs = [run_data("a", metrics=metrics), run_data("b", metrics=metrics, evals=[])]
    figures = {(f["title"], f["axis"]): f["data"] for f in overlaid_figures(runs)}
    sampled, held_out, only_sampled = figures["Entity F1, exact micro", "step"]
    assert (sampled["x"], held_out["x"], only_sampled["x"]) == ([1, 2], [0, 2], [1, 2])
    assert [t.get("showlegend", True) for t in (sampled, held_out, only_sampled)] == [
        False,
        True,
        True,
    ]
    styles = {
        (trace["name"], trace["line"]["color"], trace["line"]["dash"])
        for data in figures.values()
        for trace in data
    }
    assert len(styles) == 2


def test_the_clock_of_a_resumed_run_goes_on() -> None:
    times = [(1, 5.0), (2, 9.0), (3, 4.0), (4, 6.0)]
    metrics = [step(n, time_s=t) for n, t in times]
    run = run_data("a", metrics=metrics, evals=[evaluation(4, 0.5, [])])
    by_axis = {(f["title"], f["axis"]): f["data"] for f in overlaid_figures([run])}
    assert by_axis["Reward", "seconds"][0]["x"] == [5.0, 9.0, 13.0, 15.0]
    assert by_axis["Entity F1, exact micro", "seconds"][0]["x"] == [15.0]
    assert figures_of(run, run).wall_s == 15.0


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
