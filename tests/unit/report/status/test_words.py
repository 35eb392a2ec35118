"""What a terminal shows of a status."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.report.status.status import read_status
from t2g_ray.report.status.words import duration, rows_of
from t2g_ray.run.scale_request import Answer, Bounds, write_answer, write_request
from tests.unit.report.status.parts import GRPO, line, make_run


def test_what_is_known_is_shown_and_what_is_not_known_has_no_row(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(step) for step in range(1, 41)])
    rows = dict(rows_of(read_status(run)))
    assert rows["step"] == "40 of 100"
    assert rows["pace"] == "1,000 tokens/s, 1,800 steps an hour"
    assert rows["reward/mean"] == "0.355 (+0.100)"
    assert rows["rollout actors"] == "2 work, 2 asked for"
    assert rows["staleness"] == "0.50 versions, oldest 1.0"
    assert "checkpoint" not in rows
    assert "evaluation" not in rows
    assert "last words" not in rows


def test_a_run_that_chooses_its_actors_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(1)])
    bounds = Bounds(1, 4)
    write_request(run / "scale.json", bounds)
    answer = Answer(rollouts=3, change="added 1: the learner waits", auto=bounds)
    write_answer(run / "rollouts.json", answer)
    rows = dict(rows_of(read_status(run)))
    told = "3 work, the run chooses; change: added 1: the learner waits"
    assert rows["rollout actors"] == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(9, "9 s"), (61.4, "1 min 1 s"), (7384.0, "2 h 3 min"), (0, "0 s")]
)
def test_durations_are_short(seconds: float, told: str) -> None:
    assert duration(seconds) == told
