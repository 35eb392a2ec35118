"""What selftest.json holds: only what can be true, and all of it after reading it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.selftest.outcome import Figure, Outcome, Verdict, read_report, to_json
from tests.unit.benchmarks.selftest.parts import outcome, report


def test_what_was_written_is_read_back_equal(tmp_path: Path) -> None:
    figured = Outcome(
        name="a",
        shows="b",
        verdict="passed",
        seconds=0.25,
        figures=(Figure("tokens_per_s", 9812.5, "tokens/s"),),
    )
    whole = report(figured, outcome("c", "failed"), outcome("d", "skipped"))
    path = tmp_path / "selftest.json"
    path.write_text(to_json(whole))
    assert read_report(path) == whole


@pytest.mark.parametrize(
    ("old", "new"), [('"passed"', '"fine"'), ('"checks"', '"tests"'), ("{", "[")]
)
def test_a_file_that_was_changed_is_refused_by_its_path(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "selftest.json"
    path.write_text(to_json(report(outcome("a"))).replace(old, new, 1))
    with pytest.raises(ValueError, match=r"selftest\.json must be .*run it again"):
        read_report(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValueError, match="speed must be a finite number"):
        Figure("speed", value, "tokens/s")


@pytest.mark.parametrize(("verdict", "found"), [("failed", ""), ("skipped", ""), ("passed", "x")])
def test_what_did_not_pass_has_a_reason(verdict: Verdict, found: str) -> None:
    with pytest.raises(ValueError, match="a reason if, and only if, it did not pass"):
        Outcome(name="a", shows="b", verdict=verdict, seconds=0.0, found=found)


def test_the_verdict_is_that_of_all_checks() -> None:
    passed, skipped = outcome("a"), outcome("b", "skipped")
    assert report(passed, skipped).verdict == "passed: 1 checks, 1 skipped"
    assert report(passed, outcome("c", "failed")).verdict == "failed: c; 1 checks passed"
    # Whoever skipped everything has shown nothing.
    assert report(skipped).verdict == "nothing shown: all 1 checks skipped"
    assert report(passed, outcome("c", "failed")).failed == ("c",)
