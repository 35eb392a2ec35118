"""What `t2g scale` asks of a live run."""

from pathlib import Path

import pytest

from t2g_ray.run import scale_request
from t2g_ray.run.folder import RunDir
from tests.unit.cli.parts import t2g


def test_the_number_reaches_the_run_and_is_told_when_that_many_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int, float]] = []

    def request(run: RunDir, rollouts: int, *, timeout_s: float) -> None:
        asked.append((run.path, rollouts, timeout_s))

    monkeypatch.setattr(scale_request, "request_rollouts", request)
    result = t2g("scale", tmp_path, "--rollouts", 4, "--timeout-s", 9)
    assert result.exit_code == 0, result.output
    assert asked == [(tmp_path, 4, 9.0)]
    assert "4 rollout actors work" in result.stdout


def test_a_folder_without_a_live_run_is_refused(tmp_path: Path) -> None:
    result = t2g("scale", tmp_path / "none", "--rollouts", 2)
    assert result.exit_code != 0
    assert str(tmp_path / "none") in result.stderr
