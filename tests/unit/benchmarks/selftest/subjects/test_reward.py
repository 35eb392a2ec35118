"""The reward of runs that only have to run."""

from __future__ import annotations

from benchmarks.selftest.subjects.reward import spread


def test_texts_differ_and_repeat_lone_surrogates_included() -> None:
    values = [spread(text) for text in ("", "a", "b", "\ud800", '{"entities":[]}')]
    assert len(set(values)) == len(values)
    assert all(0 <= value < 1 for value in values)
    assert spread("a") == values[1]
