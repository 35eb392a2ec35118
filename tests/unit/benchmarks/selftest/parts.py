"""Outcomes and reports of a self-test, made up."""

from __future__ import annotations

from benchmarks.selftest.outcome import ClaimOutcome, Outcome, SelfTestReport, Verdict


def outcome(name: str, verdict: Verdict = "passed") -> Outcome:
    """A check with this verdict."""
    found = "" if verdict == "passed" else "why"
    return Outcome(name=name, shows="something", verdict=verdict, seconds=1.5, found=found)


def report(*checks: Outcome) -> SelfTestReport:
    """A self-test of these checks on a CPU."""
    return SelfTestReport(
        device="cpu",
        model="demo",
        minutes=10,
        measured="2026-01-01T10:00:00+00:00",
        commit="abc",
        machine={"cores": 2, "processor": "a & b"},
        versions={"torch": "2"},
        checks=checks,
        claims=(ClaimOutcome("gpu-2", "it computes", "confirmed", "parity"),),
    )
