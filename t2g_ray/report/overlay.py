"""Several runs -> figures with one curve a run, over steps and over wall-clock.

Invariant: a run has one colour and one dash in all figures. Curves are thinned as those of a
single run are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2g_ray.report.load import RunData
from t2g_ray.report.plots.curves import COLOURS, DASHES, PlotlyTrace, points, running_mean
from t2g_ray.report.runs import WINDOW_STEPS, held_out_lines, with_seconds

OVER_STEPS = {
    "reward/mean": ("Reward", "reward"),
    "f1/entities": ("Entity F1, exact micro", "F1"),
    "f1/relations": ("Relation F1, exact micro", "F1"),
    "loss": ("Loss", "loss"),
    "throughput/tokens_per_s": ("Throughput, prompt + generated", "tokens/s"),
    "completion_length/mean": ("Completion length", "tokens"),
}
OVER_TIME = ("reward/mean", "f1/entities", "f1/relations")
AXES = {"step": "step", "seconds": "seconds of training"}


def overlaid_figures(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """Plotly figures {"title", "axis", "data", "layout"}; those over steps come first."""
    figures = [_figure(runs, key, "step") for key in OVER_STEPS]
    figures += [_figure(runs, key, "seconds") for key in OVER_TIME]
    return [figure for figure in figures if figure["data"]]


def _figure(runs: Sequence[RunData], key: str, axis: str) -> dict[str, Any]:
    title, unit = OVER_STEPS[key]
    data: list[PlotlyTrace] = []
    for number, run in enumerate(runs):
        # Six colours with each of six dashes, before two runs look the same.
        dash = DASHES[(number + number // len(COLOURS)) % len(DASHES)]
        line = {"color": COLOURS[number % len(COLOURS)], "dash": dash, "width": 2}
        data += _traces(run, key, axis, line)
    return {
        "title": title,
        "axis": axis,
        "data": data,
        "layout": {
            "xaxis": {"title": {"text": AXES[axis], "standoff": 6}},
            "yaxis": {"title": {"text": unit}},
            "showlegend": True,
        },
    }


def _traces(run: RunData, key: str, axis: str, line: Mapping[str, Any]) -> list[PlotlyTrace]:
    """The running mean over steps, and held-out values with a marker each where there are any."""
    places, values = points(with_seconds(run.metrics, run), key, axis)
    trained: PlotlyTrace = {
        "x": places,
        "y": running_mean(values, WINDOW_STEPS),
        "name": run.name,
        "legendgroup": run.name,
        "mode": "lines",
        "line": line,
    }
    places, values = points(with_seconds(held_out_lines(run), run), key, axis)
    held_out: PlotlyTrace = {
        **trained,
        "x": places,
        "y": values,
        "mode": "lines+markers",
        "marker": {"size": 8, "symbol": "diamond"},
    }
    if held_out["x"]:
        thin = {"line": {**line, "width": 1}, "opacity": 0.5}
        trained |= {**thin, "showlegend": False, "hoverinfo": "skip"}
    return [trace for trace in (trained, held_out) if trace["x"]]
