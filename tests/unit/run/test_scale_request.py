"""A request for rollout actors, and the run's answer, each in a file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.run import scale_request
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import (
    read_failure,
    read_number,
    request_rollouts,
    write_fixed,
    write_number,
)


@pytest.fixture
def live(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.config.write_text("steps: 1\n")
    return run


def test_a_number_is_read_as_it_was_written_and_is_none_before(tmp_path: Path) -> None:
    path = tmp_path / "number.json"
    assert read_number(path) is None
    for number in (3, 1):
        write_number(path, number)
        assert read_number(path) == number


def test_a_request_is_over_when_the_run_has_that_many(
    live: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int | None] = []

    def answer(_: float) -> None:
        """The run reads the request and answers between two looks."""
        looks.append(read_number(live.scale_request))
        write_number(live.rollouts_json, 2 if len(looks) == 1 else 4)

    monkeypatch.setattr(scale_request.time, "sleep", answer)
    request_rollouts(live, 4, timeout_s=60)
    assert looks == [4, 4]


def test_a_try_that_failed_is_told_and_forgotten_when_the_next_one_succeeds(live: RunDir) -> None:
    assert read_failure(live.rollouts_json) == ""
    write_number(live.rollouts_json, 1, "no room for rollout/1")
    assert (read_number(live.rollouts_json), read_failure(live.rollouts_json)) == (
        1,
        "no room for rollout/1",
    )
    message = "found 1; the last try failed, and the run tries again: no room for rollout/1. The"
    with pytest.raises(TimeoutError, match=message):
        request_rollouts(live, 2, timeout_s=0)
    write_number(live.rollouts_json, 2)
    assert read_failure(live.rollouts_json) == ""


@pytest.mark.parametrize(("answer", "told"), [(None, "no answer"), (2, "2")])
def test_a_run_that_does_not_follow_is_named_and_the_request_stays(
    answer: int | None, told: str, live: RunDir
) -> None:
    if answer is not None:
        write_number(live.rollouts_json, answer)
    with pytest.raises(TimeoutError, match=f"must have 3 rollout actors within 0 s, found {told};"):
        request_rollouts(live, 3, timeout_s=0)
    assert read_number(live.scale_request) == 3


def test_what_is_no_live_run_is_refused_and_gets_no_request(live: RunDir) -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        request_rollouts(live, 0, timeout_s=0)
    live.report_json.write_text("{}")
    with pytest.raises(ValueError, match="found a finished one"):
        request_rollouts(live, 1, timeout_s=0)
    live.config.unlink()
    with pytest.raises(ValueError, match=r"found no config\.yaml"):
        request_rollouts(live, 1, timeout_s=0)
    assert not live.scale_request.exists()


def test_a_run_whose_number_is_fixed_refuses_at_once_and_says_why(live: RunDir) -> None:
    write_fixed(live.rollouts_json, 1, "colocate=time")
    assert read_number(live.rollouts_json) == 1
    with pytest.raises(ValueError, match=r"its number of rollout actors, found colocate=time"):
        request_rollouts(live, 2, timeout_s=1)
    assert not live.scale_request.exists()
    write_number(live.rollouts_json, 1)  # a later life of the run
    with pytest.raises(TimeoutError):
        request_rollouts(live, 2, timeout_s=0)
