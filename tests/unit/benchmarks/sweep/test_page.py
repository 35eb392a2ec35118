"""The page of a sweep: its verdict, all figures, and curves that start where the ideal does."""

from __future__ import annotations

from benchmarks.sweep.figures import medians_of
from benchmarks.sweep.page import charts, render, verdict_words
from tests.unit.benchmarks.sweep.parts import swept


def test_verdict_figures_and_command_are_shown_and_escaped() -> None:
    page = render(swept())
    for words in (
        "Rollout actors pay up to 2: 4 give 0.25 of their ideal gain",
        "<th>1</th><th>2</th><th>4</th>",
        "<td>efficiency</td><td>share</td><td>1</td><td>1</td><td>0.625</td>",
        "<td>gain_share</td><td>share</td><td></td><td>1</td><td>0.25</td>",
        "t2g bench sweep &lt;config&gt;",
        'id="plot-0"',
    ):
        assert words in page


def test_each_figure_is_drawn_over_the_numbers_that_have_it() -> None:
    numbers = medians_of(swept().rows)
    drawn = {figure["title"]: figure["data"] for figure in charts(numbers)}
    (per_device,) = drawn["Tokens a second and device"]
    assert (per_device["x"], per_device["y"]) == ([1, 2, 4], [125.0, 500 / 3, 125.0])
    efficiency, gain = drawn["Share of the ideal"]
    assert (efficiency["x"], gain["x"]) == ([1, 2, 4], [2, 4])


def test_the_verdict_is_that_of_the_medians() -> None:
    assert verdict_words(swept()).startswith("Rollout actors pay up to 2:")
