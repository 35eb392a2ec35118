"""Tables in the terminal and in pages: "met" is what the gate says."""

from __future__ import annotations

import pytest

from benchmarks.limits import Limit, judge
from benchmarks.tables import markdown, met, missed, number, print_result, span
from tests.unit.benchmarks.parts import baseline, case, result, row

FOUND = result(row("speed", 90.0, 100.0, 12345.0), row("share", 0.92, unit="share"), row("more", 1))
LIMITS = case(
    Limit(metric="speed", of_baseline=(0.8, None)),
    Limit(metric="share", goal=(0.95, None)),
    Limit(metric="gone", goal=(None, 1.0)),
)


def test_a_result_becomes_text_with_verdicts_and_what_it_was_measured_on() -> None:
    verdicts = judge(FOUND, LIMITS, baseline(row("speed", 80.0)))
    assert markdown(FOUND, verdicts).splitlines() == [
        "`t2g bench x`",
        "",
        "| metric | median | min | max | unit | runs | demanded | baseline | met |",
        "|---|--:|--:|--:|---|--:|---|--:|---|",
        "| `speed` | 100 | 90 | 12,345 | tokens/s | 3 | >= 0.8 x baseline | 80 | yes |",
        "| `share` | 0.92 | 0.92 | 0.92 | share | 3 | >= 0.95 |  | no |",
        "| `more` | 1 | 1 | 1 | tokens/s | 3 |  |  |  |",
        "",
        "Measured on: system Linux, processor EPYC, cores 2, memory_gib 23.5, ray 1.2. "
        "Code: bbbbbbbbbbbb. At: 2026-01-02T10:00:00+00:00.",
    ]


def test_every_missed_limit_is_told_with_its_reasons_also_of_rows_that_are_not_there() -> None:
    verdicts = judge(FOUND, LIMITS, None)
    assert missed(verdicts) == [
        "speed must be >= 0.8 x baseline: there is no baseline",
        "share must be >= 0.95: 0.92 is not >= 0.95",
        "gone must be <= 1: gone was not measured",
    ]
    assert [met(verdict) for verdict in [*verdicts, None]] == ["no", "no", "no", ""]


def test_the_terminal_shows_every_figure_and_every_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result(FOUND, judge(FOUND, LIMITS, None))
    printed = capsys.readouterr().out
    for part in ("12,345", "0.92", "missed", "gone was not measured", "there is no baseline"):
        assert part in printed


def test_figures_have_four_digits_and_a_span_its_ends() -> None:
    assert [number(value) for value in (0.12345, 12345.6, -2000.0)] == [
        "0.1235",
        "12,346",
        "-2,000",
    ]
    assert span(row("speed", 0.88, 0.92, 0.94)) == "0.92 (0.88 to 0.94)"
