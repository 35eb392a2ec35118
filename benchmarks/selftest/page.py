"""Outcomes -> lines of a terminal, and selftest.html: verdicts, figures, claims, the machine."""

from __future__ import annotations

from benchmarks.selftest.outcome import Figure, Outcome, SelfTestReport
from benchmarks.tables import number
from t2g_ray.report.template import fill


def render(report: SelfTestReport) -> str:
    """The whole page as HTML."""
    return fill(
        "selftest.html.j2",
        report=report,
        rows=[(check, [figure_words(one) for one in check.figures]) for check in report.checks],
        place={**report.machine, **report.versions},
    )


def figure_words(figure: Figure) -> str:
    """Example: "tokens_per_s 9,812 tokens/s"."""
    return f"{figure.name} {number(figure.value)} {figure.unit}"


def outcome_lines(outcome: Outcome) -> str:
    """A check as the terminal shows it: its verdict, and what belongs to that."""
    figures = ", ".join(figure_words(one) for one in outcome.figures)
    head = f"{outcome.verdict:8} {outcome.name:15} {outcome.seconds:6.1f} s  {outcome.shows}"
    return "\n".join([head, *(f"{'':9}{x}" for x in (outcome.found, outcome.advice, figures) if x)])


def claim_lines(report: SelfTestReport) -> str:
    """Every claim with its status."""
    claims = [f"  {one.status:11} {one.id:6} {one.says} ({one.by})" for one in report.claims]
    return "\n".join(["claims of docs/gpu.md:", *claims])
