"""A request for rollout actors, and the run's answer, each in a file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.run import scale_request
from t2g_ray.run.folder import RunDir
from t2g_ray.run.scale_request import (
    Answer,
    Bounds,
    read_answer,
    read_request,
    request_auto,
    request_off,
    request_rollouts,
    write_answer,
    write_request,
)


@pytest.fixture
def live(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.config.write_text("steps: 1\n")
    return run


def test_a_request_is_read_as_it_was_written_and_is_none_before(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    assert read_request(path) is None
    for request in (3, Bounds(1, 4, 30.0), 1):
        write_request(path, request)
        assert read_request(path) == request


def test_an_answer_is_read_as_it_was_written_and_is_none_before(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.json"
    assert read_answer(path) is None
    answers = (
        Answer(rollouts=2),
        Answer(rollouts=2, failure="no room", change="step 3: 1 -> 2", auto=Bounds(1, 2)),
        Answer(rollouts=1, fixed="colocate=time"),
    )
    for answer in answers:
        write_answer(path, answer)
        assert read_answer(path) == answer


@pytest.mark.parametrize(("least", "most"), [(0, 3), (3, 2), (-1, -1)])
def test_bounds_that_hold_no_number_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"found --min {least} --max {most}"):
        Bounds(least, most)
    with pytest.raises(ValueError, match="--cool-down-s must be at least 0"):
        Bounds(1, 2, -1.0)


def test_a_request_is_over_when_the_run_has_that_many(
    live: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []

    def answer(_: float) -> None:
        """The run reads the request and answers between two looks."""
        looks.append(read_request(live.scale_request))
        write_answer(live.rollouts_json, Answer(rollouts=2 if len(looks) == 1 else 4))

    monkeypatch.setattr(scale_request.time, "sleep", answer)
    request_rollouts(live, 4, timeout_s=60)
    assert looks == [4, 4]


def test_a_run_says_when_it_follows_its_own_figures_and_when_it_no_longer_does(
    live: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_answer(live.rollouts_json, Answer(rollouts=2))

    def answer(_: float) -> None:
        request = read_request(live.scale_request)
        auto = request if isinstance(request, Bounds) else None
        write_answer(live.rollouts_json, Answer(rollouts=2, auto=auto))

    monkeypatch.setattr(scale_request.time, "sleep", answer)
    request_auto(live, Bounds(1, 3), timeout_s=60)
    answered = read_answer(live.rollouts_json)
    assert answered is not None
    assert answered.auto == Bounds(1, 3)
    assert request_off(live, timeout_s=60) == 2
    assert read_request(live.scale_request) == 2


def test_a_run_that_has_no_actors_yet_forgets_what_was_asked(live: RunDir) -> None:
    write_request(live.scale_request, Bounds(1, 3))
    with pytest.raises(ValueError, match="found none yet"):
        request_off(live, timeout_s=0)
    assert read_request(live.scale_request) is None


def test_a_try_that_failed_is_told(live: RunDir) -> None:
    write_answer(live.rollouts_json, Answer(rollouts=1, failure="no room for rollout/1"))
    message = "found 1; the last try failed, and the run tries again: no room for rollout/1. The"
    with pytest.raises(TimeoutError, match=message):
        request_rollouts(live, 2, timeout_s=0)


@pytest.mark.parametrize(("answer", "told"), [(None, "no answer"), (2, "2")])
def test_a_run_that_does_not_follow_is_named_and_the_request_stays(
    answer: int | None, told: str, live: RunDir
) -> None:
    if answer is not None:
        write_answer(live.rollouts_json, Answer(rollouts=answer))
    with pytest.raises(TimeoutError, match=f"must have 3 rollout actors within 0 s, found {told};"):
        request_rollouts(live, 3, timeout_s=0)
    assert read_request(live.scale_request) == 3


def test_what_is_no_live_run_is_refused_and_gets_no_request(live: RunDir) -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        request_rollouts(live, 0, timeout_s=0)
    live.report_json.write_text("{}")
    asks = [
        lambda: request_rollouts(live, 1, timeout_s=0),
        lambda: request_auto(live, Bounds(1, 2), timeout_s=0),
        lambda: request_off(live, timeout_s=0),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match="found a finished one"):
            ask()
    live.config.unlink()
    for ask in asks:
        with pytest.raises(ValueError, match=r"found no config\.yaml"):
            ask()
    assert not live.scale_request.exists()


def test_a_run_whose_number_is_fixed_refuses_at_once_and_says_why(live: RunDir) -> None:
    write_answer(live.rollouts_json, Answer(rollouts=1, fixed="colocate=time"))
    for ask in (
        lambda: request_rollouts(live, 2, timeout_s=1),
        lambda: request_auto(live, Bounds(1, 2), timeout_s=1),
        lambda: request_off(live, timeout_s=1),
    ):
        with pytest.raises(ValueError, match=r"its number of rollout actors, found colocate=time"):
            ask()
    assert not live.scale_request.exists()
    write_answer(live.rollouts_json, Answer(rollouts=1))  # a later life of the run
    with pytest.raises(TimeoutError):
        request_rollouts(live, 2, timeout_s=0)
