"""Rates of engines: what is over what, and that sides with unlike threads are no comparison."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.speed import rollout
from benchmarks.speed.rollout import rows_of


def test_both_actors_are_over_vllm_run_by_run() -> None:
    rates = {"vllm": [10.0, 20.0], "actor": [9.0, 10.0], "guesses": [20.0, 20.0]}
    rows = {row.metric: row for row in rows_of(rates)}
    assert rows["generated_tokens_per_s/guesses"].values == (20.0, 20.0)
    assert rows["actor_over_vllm"].values == (0.9, 0.5)
    assert rows["guesses_over_vllm"].values == (2.0, 1.0)
    assert len(rows) == 5


def test_guesses_are_never_taken_for_the_actor_without_them() -> None:
    assert {row.metric for row in rows_of({"vllm": [1.0], "actor": [1.0]})} == {
        "generated_tokens_per_s/vllm",
        "generated_tokens_per_s/actor",
        "actor_over_vllm",
    }


@pytest.mark.parametrize("found", [(1, 2), (2, 1), (1, 1, 2), (4, 2, 2), (1, 3, 2)])
def test_sides_of_unlike_threads_are_refused(
    monkeypatch: pytest.MonkeyPatch, found: tuple[int, ...]
) -> None:
    class Side:
        def __init__(self, threads: int) -> None:
            self.threads = threads

        def call(self, *_: object) -> int:
            return self.threads

    monkeypatch.setattr(rollout, "get_all", list)

    def check(threads: tuple[int, ...]) -> None:
        *actors, bare = map(Side, threads)
        sides: Any = dict(enumerate(actors))
        rollout._check_threads(sides, bare)  # type: ignore[arg-type]

    check((2,) * len(found))
    with pytest.raises(ValueError, match="as many threads"):
        check(found)
