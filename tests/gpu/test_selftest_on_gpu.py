"""`t2g selftest` as the owner of a GPU runs it. Not yet run on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.selftest.outcome import read_report
from t2g_ray.cli.main import app


@pytest.mark.timeout(1200)
def test_every_check_that_fits_this_machine_passes(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["selftest", "--minutes", "18", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    report = read_report(tmp_path / "selftest.json")
    assert report.device == "cuda"
    assert not report.failed
    passed = {check.name for check in report.checks if check.verdict == "passed"}
    assert {"environment", "parity", "sync_store", "sync_ipc", "loop_sync"} <= passed
    assert not [claim.id for claim in report.claims if claim.status == "refuted"]
