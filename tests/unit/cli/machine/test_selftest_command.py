"""`t2g selftest`: what it shows, what it writes, how it ends. The checks themselves are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.selftest import app as selftest
from benchmarks.selftest.outcome import Figure, read_report
from benchmarks.selftest.running import Check, CheckFailed, CheckSkipped
from t2g_ray.cli.exits import BAD_INPUT, FAILED
from t2g_ray.cli.main import app


def made_up(*errors: Exception | None) -> list[Check]:
    def check(number: int, error: Exception | None) -> Check:
        def work() -> list[Figure]:
            if error is not None:
                raise error
            return [Figure("tokens_per_s", 9812.4, "tokens/s")]

        return Check(
            name="parity" if number == 0 else f"check_{number}",
            shows="it works",
            work=work,
            expected_s=1,
            advice="look there",
        )

    return [check(number, error) for number, error in enumerate(errors)]


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *errors: Exception | None) -> tuple[int, str]:
    monkeypatch.setattr(selftest, "checks_of", lambda session, only: made_up(*errors))
    done = CliRunner().invoke(app, ["selftest", "--minutes", "1", "--out", str(out)])
    return done.exit_code, done.output


def test_what_passed_or_was_skipped_ends_well_with_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = run(monkeypatch, tmp_path / "out", None, CheckSkipped("no second GPU"))
    assert code == 0
    for words in (
        "tokens_per_s 9,812 tokens/s",
        "no second GPU",
        "confirmed   gpu-2 ",
        "1 skipped",
    ):
        assert words in output
    report = read_report(tmp_path / "out" / "selftest.json")
    assert [check.verdict for check in report.checks] == ["passed", "skipped"]
    assert "no second GPU" in (tmp_path / "out" / "selftest.html").read_text()


def test_a_check_that_failed_is_exit_code_1_and_the_files_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = run(monkeypatch, tmp_path, CheckFailed("they differ"), None)
    assert code == FAILED
    for words in ("they differ", "look there", "refuted     gpu-2", "failed: parity"):
        assert words in output
    assert read_report(tmp_path / "selftest.json").failed == ("parity",)


@pytest.mark.parametrize("options", [["--model", "qwen9"], ["--only", "parity,nothing"]])
def test_a_model_or_a_check_that_there_is_none_of_is_bad_input(
    tmp_path: Path, options: list[str]
) -> None:
    done = CliRunner().invoke(app, ["selftest", "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == BAD_INPUT
    assert not (tmp_path / "out").exists()
