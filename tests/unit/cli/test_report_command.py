"""t2g report on what is not there, and where it must not write."""

from pathlib import Path

from tests.unit.cli.parts import t2g


def test_report_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = t2g("report", tmp_path / "none")
    assert result.exit_code == 2
    assert "must be a folder" in result.stderr


def test_report_writes_no_comparison_over_a_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    runs = (tmp_path / "a", tmp_path / "b")
    for out in (runs[0], runs[1] / "report.html", tmp_path / "page.json", tmp_path):
        result = t2g("report", *runs, "--out", out)
        assert result.exit_code == 2, (out, result.output)
        assert "must " in result.stderr
    assert not [*runs[0].iterdir(), *runs[1].iterdir()]


def test_the_page_of_one_run_takes_no_other_name(tmp_path: Path) -> None:
    result = t2g("report", tmp_path, "--out", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "--out names a page of several runs" in result.stderr
