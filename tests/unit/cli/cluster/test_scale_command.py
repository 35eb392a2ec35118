"""What `t2g scale` asks of a live run."""

from pathlib import Path

import pytest

from t2g_ray.run import scale_request
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import Bounds
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


def test_bounds_reach_the_run_and_are_ended_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def request_auto(run: RunDir, bounds: Bounds, *, timeout_s: float) -> None:
        asked.append((run.path, bounds, timeout_s))

    def request_off(run: RunDir, *, timeout_s: float) -> int:
        asked.append((run.path, timeout_s))
        return 3

    monkeypatch.setattr(scale_request, "request_auto", request_auto)
    monkeypatch.setattr(scale_request, "request_off", request_off)
    on = t2g("scale", tmp_path, "--auto", "--min", 2, "--max", 8, "--cool-down-s", 5)
    assert "chooses between 2 and 8 rollout actors" in on.stdout
    off = t2g("scale", tmp_path, "--off", "--timeout-s", 9)
    assert "keeps 3 rollout actors" in off.stdout
    assert asked == [(tmp_path, Bounds(2, 8, 5.0), 600.0), (tmp_path, 9.0)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "found none"),
        (["--auto", "--rollouts", 2], "found --rollouts, --auto"),
        (["--off", "--auto", "--max", 2], "found --auto, --off"),
        (["--rollouts", 2, "--max", 2], "--min and --max must come with --auto"),
        (["--auto"], "--auto needs --max"),
        (["--auto", "--min", 3, "--max", 2], "found --min 3 --max 2"),
        (["--auto", "--min", 0, "--max", 2], "found --min 0 --max 2"),
    ],
)
def test_options_that_do_not_go_together_are_refused_and_nothing_is_asked(
    tmp_path: Path, options: list[object], told: str
) -> None:
    RunDir(tmp_path).config.write_text("steps: 1\n")
    result = t2g("scale", tmp_path, *options)
    assert result.exit_code != 0
    assert told in result.stderr
    assert not RunDir(tmp_path).scale_request.exists()


def test_a_folder_without_a_live_run_is_refused(tmp_path: Path) -> None:
    result = t2g("scale", tmp_path / "none", "--rollouts", 2)
    assert result.exit_code != 0
    assert str(tmp_path / "none") in result.stderr
