"""The page of a self-test, with all that it found and nothing that runs."""

from __future__ import annotations

from benchmarks.selftest.outcome import Figure, Outcome
from benchmarks.selftest.page import figure_words, render
from tests.unit.benchmarks.selftest.parts import outcome, report


def test_verdicts_reasons_figures_and_claims_are_shown_and_escaped() -> None:
    fast = Outcome(
        name="fast",
        shows="speed",
        verdict="passed",
        seconds=12.34,
        figures=(Figure("tokens_per_s", 9812.4, "tokens/s"),),
    )
    bad = Outcome(
        name="bad",
        shows="order",
        verdict="failed",
        seconds=1.0,
        found="<script>tensor</script>",
        advice="do not train",
    )
    page = render(report(fast, bad, outcome("none", "skipped")))
    for words in (
        "failed: bad; 1 checks passed",
        "12.3",
        "tokens_per_s 9,812 tokens/s",
        "&lt;script&gt;tensor",
        "do not train",
        "gpu-2",
        "confirmed",
        "a &amp; b",
        'class="up">passed',
        'class="down">failed',
        'class="soft">skipped',
    ):
        assert words in page
    assert "<script>" not in page


def test_figures_have_their_unit() -> None:
    assert figure_words(Figure("mfu", 0.41237, "share")) == "mfu 0.4124 share"
