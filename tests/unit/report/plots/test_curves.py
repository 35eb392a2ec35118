"""Metrics and evaluations -> the figures of one run."""

from __future__ import annotations

from t2g_ray.report.plots.curves import MAX_POINTS, figures, running_mean


def test_figures_hold_only_what_the_run_has() -> None:
    metrics: list[dict[str, float | None]] = [
        {"step": 1, "loss": 0.5, "reward/mean": 1.0, "reward/json": 0.25},
        {"step": 2, "loss": None, "reward/mean": 2.0, "reward/json": 0.75},
    ]
    evals = [{"step": 2, "split": "heldout", "f1/entities": 0.5}]
    shown = {figure["title"]: figure["data"] for figure in figures(metrics, evals)}
    assert list(shown) == ["Reward", "F1, exact micro", "Parts of the reward", "Loss"]
    assert (shown["Loss"][0]["x"], shown["Loss"][0]["y"]) == ([1], [0.5])
    assert [trace["name"] for trace in shown["Parts of the reward"]] == ["json"]
    assert [trace["name"] for trace in shown["F1, exact micro"]] == ["entities, held out"]
    assert figures([], []) == []
    (held_out,) = figures([], [{"step": 5, "split": "heldout", "loss": 0.75}])
    assert (held_out["title"], held_out["data"][0]["y"]) == ("Loss", [0.75])


def test_long_runs_are_thinned_to_means_of_neighbours() -> None:
    metrics = [{"step": step, "loss": float(step)} for step in range(1, 4 * MAX_POINTS + 1)]
    (figure,) = figures(metrics, [])
    faint, smooth = figure["data"]
    assert len(faint["x"]) == len(smooth["y"]) == MAX_POINTS
    assert (faint["x"][0], faint["y"][0]) == (2.5, 2.5)


def test_the_running_mean_looks_back_only() -> None:
    assert running_mean([1.0, 3.0, 5.0, 1.0], 2) == [1.0, 2.0, 4.0, 3.0]
