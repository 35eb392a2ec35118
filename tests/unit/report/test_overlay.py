"""Several runs -> curves in one style a run."""

from __future__ import annotations

from t2g_ray.report.overlay import overlaid_figures
from t2g_ray.report.runs import figures_of
from tests.unit.report.parts import evaluation, run_data, step


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
