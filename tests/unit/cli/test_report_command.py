"""t2g report on what is not there."""

from pathlib import Path

from tests.unit.cli.parts import t2g


def test_report_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = t2g("report", tmp_path / "none")
    assert result.exit_code == 2
    assert "must be a folder" in result.stderr
