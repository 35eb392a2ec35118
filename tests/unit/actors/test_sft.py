"""Failures of ranks -> the one error that the run ends with."""

from __future__ import annotations

from ray.train.v2.api.exceptions import WorkerGroupError

from actors.sft import _failure


def test_bad_input_on_a_rank_is_a_value_error_in_its_own_words() -> None:
    cause = ValueError("prompt and answer must fit")
    assert _failure(WorkerGroupError("two failed", {0: RuntimeError("gone"), 1: cause})) is cause


def test_other_failures_name_every_rank_that_failed() -> None:
    failures = {1: RuntimeError("no space left"), 0: OSError("connection closed")}
    failure = _failure(WorkerGroupError("two failed", dict(failures)))
    assert isinstance(failure, RuntimeError)
    assert str(failure) == "SFT failed: rank 0: connection closed; rank 1: no space left"
