"""Several runs side by side: figures by hand, curves of one style a run, a page that is safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.report.runs import Course, config_differences, distinct_names, figures_of
from tests.unit.report.parts import FOUND, MISSED, evaluation, run_data, step


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
