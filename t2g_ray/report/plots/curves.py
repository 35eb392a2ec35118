"""metrics.jsonl and evals.jsonl -> Plotly figures as plain data.

Invariant: a series is drawn exactly when it has a finite value. Long runs are thinned to means
of neighbouring steps, so that the page stays small. Lines differ in dash as well as in colour
(palette of Okabe and Ito), so that they can be told apart without colour vision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2g_ray.report.load import of_heldout

Lines = Sequence[Mapping[str, Any]]
PlotlyTrace = dict[str, Any]

MAX_POINTS = 1000
SMOOTHED_FROM_POINTS = 40
COLOURS = ("#2f8fd0", "#e69f00", "#12a57a", "#d5653e", "#b877b0", "#8c8c8c")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclass(frozen=True, slots=True)
class Chart:
    """One plot: which keys, under which labels. `is_stacked` draws bars that add up."""

    title: str
    unit: str
    series: Mapping[str, str]
    is_stacked: bool = False


CHARTS = (
    Chart("Reward", "reward", {"reward/mean": "mean", "reward_std/group_mean": "std in a group"}),
    Chart("F1, exact micro", "F1", {"f1/entities": "entities", "f1/relations": "relations"}),
    Chart("Parts of the reward", "before weighting", {"reward/<name>": ""}),
    Chart(
        "Output form",
        "share of completions",
        {"json_valid_rate": "valid JSON", "completion_length/truncated_rate": "truncated"},
    ),
    Chart("Loss", "loss", {"loss": "loss"}),
    Chart("Gradient norm", "norm before clipping", {"grad_norm": "gradient norm"}),
    Chart("Entropy and KL", "nats per token", {"entropy": "entropy", "kl": "KL to reference"}),
    Chart("Sampler and learner: KL", "nats per token", {"mismatch/kl": "KL"}),
    Chart(
        "Sampler and learner: probability ratio",
        "ratio",
        {"mismatch/max_ratio": "largest of the step"},
    ),
    Chart("Clipped tokens", "share of tokens", {"clip_fraction": "clipped"}),
    Chart("Completion length", "tokens", {"completion_length/mean": "mean"}),
    Chart(
        "Throughput",
        "tokens/s",
        {
            "throughput/tokens_per_s": "prompt + generated",
            "throughput/generated_tokens_per_s": "generated",
            "throughput/tokens_per_s_per_device": "prompt + generated, per device",
        },
    ),
    Chart(
        "Time of a step (phases can overlap)",
        "s",
        {
            "time/generate_s": "generate",
            "time/reward_s": "reward",
            "time/train_s": "train",
            "time/sync_s": "sync",
        },
        is_stacked=True,
    ),
    Chart(
        "Idle",
        "share of wall-clock",
        {"idle/learner": "learner", "idle/samplers": "samplers"},
    ),
    Chart(
        "Who waits for whom",
        "s of a step",
        {
            "time/rollout_wait_s": "learner waits for groups",
            "time/backpressure_s": "samplers are held back",
        },
    ),
    Chart("Rollout actors", "actors", {"rollout/actors": "at work"}),
    Chart(
        "Groups",
        "groups",
        {
            "groups/trained": "trained",
            "groups/no_signal": "no signal",
            "groups/dropped": "dropped",
        },
        is_stacked=True,
    ),
    Chart(
        "Staleness of weights",
        "versions",
        {"staleness/mean": "mean", "staleness/max": "largest"},
    ),
)


def figures(metrics: Lines, evals: Lines) -> list[dict[str, Any]]:
    """Plotly figures {"title", "data", "layout"} for all charts that have something to show."""
    held_out = of_heldout(evals)
    all_charts = [_figure(chart, metrics, held_out) for chart in CHARTS]
    return [figure for figure in all_charts if figure["data"]]


def _figure(chart: Chart, metrics: Lines, held_out: Lines) -> dict[str, Any]:
    data: list[PlotlyTrace] = []
    for index, (key, label) in enumerate(_expanded(chart.series, metrics).items()):
        style = {"color": COLOURS[index % 6], "dash": DASHES[index % 6], "width": 2}
        xs, ys = points(metrics, key)
        if xs:
            draw = _bars if chart.is_stacked else _curve
            data += draw(label, xs, ys, style)
        data += _markers(f"{label}, held out", held_out, key, style)
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "step", "standoff": 6}},
        "yaxis": {"title": {"text": chart.unit}, "rangemode": "tozero"},
    }
    if chart.is_stacked:
        layout["barmode"] = "stack"
    return {"title": chart.title, "data": data, "layout": layout}


def _expanded(series: Mapping[str, str], metrics: Lines) -> dict[str, str]:
    """Replace "reward/<name>" by the parts that the run has, in order of appearance."""
    if "reward/<name>" not in series:
        return dict(series)
    keys = dict.fromkeys(key for line in metrics for key in line if key.startswith("reward/"))
    return {key: key.removeprefix("reward/") for key in keys if key != "reward/mean"}


def points(lines: Lines, key: str, axis: str = "step") -> tuple[list[float], list[float]]:
    """x and finite y of the key's points, thinned to at most MAX_POINTS means."""
    pairs = finite(lines, key, axis)
    width = math.ceil(len(pairs) / MAX_POINTS)
    if width <= 1:
        return [x for x, _ in pairs], [y for _, y in pairs]
    parts = [pairs[start : start + width] for start in range(0, len(pairs), width)]
    return (
        [sum(x for x, _ in part) / len(part) for part in parts],
        [sum(y for _, y in part) / len(part) for part in parts],
    )


def finite(lines: Lines, key: str, axis: str = "step") -> list[tuple[float, float]]:
    """(x on the axis, value) of every line with a finite value."""
    return [(line[axis], line[key]) for line in lines if _is_finite(line.get(key))]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _curve(
    label: str, xs: list[float], ys: list[float], style: dict[str, Any]
) -> list[PlotlyTrace]:
    """The values; over a long noisy run faintly, with their running mean on top."""
    curve: PlotlyTrace = {"x": xs, "y": ys, "name": label, "mode": "lines", "line": style}
    if len(xs) == 1:
        curve["mode"] = "markers"
    if len(xs) < SMOOTHED_FROM_POINTS:
        return [curve]
    faint = {
        **curve,
        "line": {**style, "width": 1, "dash": "solid"},
        "opacity": 0.3,
        "showlegend": False,
        "hoverinfo": "skip",
    }
    return [faint, {**curve, "y": running_mean(ys, max(5, len(ys) // 25))}]


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean of the last `width` values up to each one (fewer at the start)."""
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - width] if index >= width else 0.0)
        means.append(total / min(index + 1, width))
    return means


def _bars(label: str, xs: list[float], ys: list[float], style: dict[str, Any]) -> list[PlotlyTrace]:
    marker = {"color": style["color"], "line": {"width": 0}}
    return [{"type": "bar", "x": xs, "y": ys, "name": label, "marker": marker}]


def _markers(label: str, held_out: Lines, key: str, style: dict[str, Any]) -> list[PlotlyTrace]:
    xs, ys = points(held_out, key)
    marker = {
        "size": 9,
        "symbol": "diamond",
        "color": style["color"],
        "line": {"width": 1.5, "color": "#ffffff"},
    }
    line = {"color": style["color"], "dash": style["dash"], "width": 3}
    trace: PlotlyTrace = {
        "x": xs,
        "y": ys,
        "name": label,
        "mode": "lines+markers",
        "line": line,
        "marker": marker,
    }
    return [trace] if xs else []
