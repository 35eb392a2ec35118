"""Result -> sweep.html: what each number of rollout actors gives, drawn and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.result import Result
from benchmarks.sweep.figures import UNITS, Figures, medians_of, paying
from benchmarks.tables import number as in_digits
from t2g_ray.report.plots.curves import COLOURS, DASHES
from t2g_ray.report.template import fill

CHARTS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("Tokens a second", "tokens/s", {"tokens_per_s": "measured", "ideal": "ideal"}),
    ("Tokens a second and device", "tokens/s", {"tokens_per_s_per_device": "per device"}),
    ("Share of the ideal", "share", {"efficiency": "efficiency", "gain_share": "of the gain"}),
    ("Idle", "share of wall-clock", {"learner_idle": "learner", "samplers_idle": "samplers"}),
    (
        "Who waits for whom",
        "s of a step",
        {
            "wall_s_per_step": "step",
            "rollout_wait_s": "learner waits for groups",
            "backpressure_s": "samplers are held back",
        },
    ),
    ("Staleness of weights", "versions", {"staleness": "mean"}),
)
"""Title, unit, and figure -> label."""


def verdict_words(result: Result) -> str:
    """Example: "Rollout actors pay up to 2: 4 give 0.31 of their ideal gain"."""
    found = paying(medians_of(result.rows))
    return f"Rollout actors pay up to {found.number}: {found.reason}"


def render(result: Result) -> str:
    """The whole page as HTML."""
    numbers = medians_of(result.rows)
    first = min(numbers)
    for number, figures in numbers.items():
        figures["ideal"] = numbers[first]["tokens_per_s"] * number / first
    return fill(
        "sweep.html.j2",
        result=result,
        verdict=verdict_words(result),
        numbers=list(numbers),
        rows=[
            (figure, unit, [_cell(at, figure) for at in numbers.values()])
            for figure, unit in UNITS.items()
        ],
        place={**result.machine, **result.versions},
        figures=charts(numbers),
    )


def charts(numbers: Mapping[int, Figures]) -> list[dict[str, Any]]:
    """Plotly figures {"title", "data", "layout"} over the number of actors."""
    return [
        {
            "title": title,
            "data": [_curve(numbers, figure, series[figure], i) for i, figure in enumerate(series)],
            "layout": {
                "xaxis": {
                    "title": {"text": "rollout actors", "standoff": 6},
                    "dtick": _ticks(numbers),
                },
                "yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
            },
        }
        for title, unit, series in CHARTS
    ]


def _ticks(numbers: Sequence[int] | Mapping[int, Figures]) -> int:
    return max(1, max(numbers) // 8)


def _curve(numbers: Mapping[int, Figures], figure: str, label: str, place: int) -> dict[str, Any]:
    points = [(number, at[figure]) for number, at in numbers.items() if figure in at]
    return {
        "x": [number for number, _ in points],
        "y": [value for _, value in points],
        "name": label,
        "mode": "lines+markers",
        "line": {"color": COLOURS[place], "dash": DASHES[place], "width": 2},
    }


def _cell(figures: Figures, figure: str) -> str:
    return in_digits(figures[figure]) if figure in figures else ""
