"""The gate: what meets a limit, and everything else, which does not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.limits import (
    Limit,
    Verdict,
    judge,
    machine_differences,
    read_cases,
    within,
)
from benchmarks.result import UNITS_IN_NAMES, Result
from tests.unit.benchmarks.parts import EARLIER, LATER, MACHINE, baseline, case, result, row

FAST = Limit(metric="speed", of_baseline=(0.8, 1.5))


def only(found: Result, limit: Limit, known: Result | None = None) -> Verdict:
    (verdict,) = judge(found, case(limit), known)
    return verdict


def test_a_goal_bounds_the_median_itself_and_needs_no_baseline() -> None:
    limit = Limit(metric="speed", goal=(5.0, None))
    good, bad = (only(result(row("speed", s)), limit) for s in (5.0, 4.9))
    assert good.is_met and not bad.is_met
    assert bad.problems == ("4.9 is not >= 5",)


def test_a_baseline_bounds_the_ratio_to_its_median() -> None:
    known = baseline(row("speed", 100.0))
    verdicts = [only(result(row("speed", s)), FAST, known) for s in (80.0, 79.0, 150.0, 151.0)]
    assert [verdict.is_met for verdict in verdicts] == [True, False, True, False]
    assert verdicts[0].baseline == 100.0
    assert FAST.words == ">= 0.8 and <= 1.5 x baseline"


def test_goal_and_baseline_must_both_hold() -> None:
    limit = Limit(metric="speed", goal=(50.0, None), of_baseline=(0.8, None))
    verdict = only(result(row("speed", 60.0)), limit, baseline(row("speed", 100.0)))
    assert verdict.problems == ("0.6 x baseline is not >= 0.8",)
    assert limit.words == ">= 50, >= 0.8 x baseline"


UNFIT: dict[str, tuple[Result | None, str]] = {
    "no baseline": (None, "there is no baseline"),
    "another benchmark": (baseline(bench="y"), "another benchmark: y"),
    "a later hour of another zone": (
        baseline(measured=("2026-01-02T09:00:00-05:00",)),
        "not older",
    ),
    "no row": (baseline(row("other", 100.0)), "no such row"),
    "other options": (baseline(settings={"steps": 6}), "other settings: steps: 6 and 5"),
    "an option more": (baseline(settings={"steps": 5, "a": 1}), "a: 1 and not given"),
    "an option less": (baseline(settings={}), "steps: not given and 5"),
    "another configuration": (baseline(config={"rollout.actors": 1}), "actors: 1 and 2"),
    "a key that it lacks": (baseline(config={}), "actors: not given and 2"),
    "the same commit": (baseline(commit="b" * 12), "same commit"),
    "the same commit with changes": (baseline(commit="b" * 12 + "+changes"), "same commit"),
    "code of no commit": (baseline(commit="unknown"), "commits of both must be known"),
    "the published run itself": (baseline(measured=(LATER,)), "not older"),
    "a later hour among its own": (baseline(measured=(EARLIER, LATER)), "not older"),
    "more cores": (baseline(machine=MACHINE | {"cores": 64}), "cores: 64 and 2"),
    "another processor": (baseline(machine=MACHINE | {"processor": "M1"}), "processor: M1"),
    "another system": (baseline(machine=MACHINE | {"system": "Darwin"}), "system: Darwin"),
    "half the memory": (baseline(machine=MACHINE | {"memory_gib": 11.0}), "memory_gib: 11.0"),
    "no machine": (baseline(machine={}), "another machine"),
    "milliseconds": (baseline(row("speed", 100.0, unit="ms")), "unit is ms, found tokens/s"),
    "two runs": (baseline(row("speed", 99.0, 101.0)), "needs 3 runs, found 2"),
    "zero": (baseline(row("speed", 0.0)), "baseline above 0, found 0"),
    "below zero": (baseline(row("speed", -1.0)), "baseline above 0, found -1"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_compared_misses_the_limit_and_says_why(name: str) -> None:
    known, reason = UNFIT[name]
    verdict = only(result(), FAST, known)
    assert not verdict.is_met
    assert reason in " ".join(verdict.problems)
    assert only(result(), FAST, baseline()).is_met


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (result(commit="unknown"), "commits of both must be known"),
        (result(row("sped", 100.0)), "speed was not measured"),
        (result(row("speed", 100.0, 100.0)), "at least 3 runs are needed, found 2"),
        (result(replace(row("speed", 100.0), runs=1)), "at least 3 runs are needed, found 1"),
        (result(row("speed", 100.0, unit="s")), "unit is tokens/s, found s"),
        (result(replace(row("speed", 100.0), median=float("nan"))), "is not >= 0.8"),
        (result(replace(row("speed", 100.0), median=float("inf"))), "is not >= 0.8"),
    ],
)
def test_a_row_that_shows_nothing_misses_its_limit(found: Result, reason: str) -> None:
    verdict = only(found, FAST, baseline())
    assert not verdict.is_met
    assert reason in " ".join(verdict.problems)


@pytest.mark.parametrize("memory", [23.4, 23.5, 23.6, 22.0, 25.0])
def test_a_little_more_or_less_memory_is_the_same_machine(memory: float) -> None:
    slow = result(row("speed", 1.0), machine=MACHINE | {"memory_gib": memory})
    verdict = only(slow, FAST, baseline())
    assert verdict.problems == ("0.01 x baseline is not >= 0.8 and <= 1.5",)


def test_ratios_and_counts_are_compared_across_machines() -> None:
    limit = Limit(metric="share", of_baseline=(0.8, None))
    known = baseline(row("share", 0.5, unit="share"), machine=MACHINE | {"cores": 64})
    verdicts = [only(result(row("share", s, unit="share")), limit, known) for s in (0.5, 0.1)]
    assert [verdict.is_met for verdict in verdicts] == [True, False]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)),
)
def test_only_equal_settings_are_compared(before: dict[str, int], now: dict[str, int]) -> None:
    for key in ("settings", "config"):
        changes: tuple[dict[str, Any], dict[str, Any]] = ({key: before}, {key: now})
        verdict = only(result(**changes[1]), FAST, baseline(**changes[0]))
        assert verdict.is_met == (before == now)


@given(st.floats(), st.floats(), st.floats())
def test_nothing_but_a_finite_number_is_within(value: float, low: float, high: float) -> None:
    is_within = within(value, (low, high))
    assert is_within == (value - value == 0 and low <= value <= high)
    assert not within(float("nan"), (None, high))
    assert not within(float("inf"), (low, None))


def test_every_limit_gives_a_verdict_whatever_was_measured() -> None:
    limits = [Limit(metric=name, goal=(0.0, None)) for name in ("a", "b", "c")]
    found = judge(result(row("b", 1.0), row("d", 1.0)), case(*limits), None)
    assert [(v.limit.metric, v.is_met) for v in found] == [("a", False), ("b", True), ("c", False)]


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"speed": {}},
        {"speed": {"goals": [1.0, None]}},
        {"speed": {"goal": [None, None]}},
        {"speed": {"goal": [2.0, 1.0]}},
        {"speed": {"goal": [1.0]}},
        {"speed": {"of_baseline": [float("nan"), None]}},
        {"speed": {"goal": [float("-inf"), None]}},
    ],
    ids=str,
)
def test_limits_that_nothing_could_miss_are_refused(tmp_path: Path, limits: Any) -> None:
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({"x": {"command": "t2g bench x", "limits": limits}}))
    with pytest.raises(ValueError, match=r"need|unpack"):
        read_cases(path)


def test_every_limit_of_the_repository_can_be_missed_by_a_possible_figure() -> None:
    for one in read_cases().values():
        for limit in one.limits:
            unit = next((u for p, u in UNITS_IN_NAMES if re.search(p, limit.metric)), "")
            for low, high in filter(None, (limit.goal, limit.of_baseline)):
                # No figure here is below 0, and no share above 1.
                assert low is None or low > 0, limit
                assert high is None or unit != "share" or high < 1, limit
            if limit.of_baseline:
                low, high = limit.of_baseline
                assert low is None or 0.5 < low <= 1, limit
                assert high is None or 1 <= high < 2, limit


def test_the_actor_without_guesses_and_the_actor_with_them_have_rows_of_their_own() -> None:
    goals = {limit.metric: limit for limit in read_cases()["rollout"].limits}
    assert goals["actor_over_vllm"].goal == (0.95, None)
    found = result(
        row("actor_over_vllm", 0.92, unit="ratio"), row("guesses_over_vllm", 1.7, unit="ratio")
    )
    verdict = only(found, goals["actor_over_vllm"])
    assert verdict.problems == ("0.92 is not >= 0.95",)
    slower = result(row("sft_here_over_commit", 1.01, unit="ratio"))
    (not_above, _) = read_cases()["against_50302b6"].limits
    assert not only(slower, not_above).is_met


@pytest.mark.parametrize(
    "text",
    [
        '{"x": {"command": "t2g bench x", "limits": {"a": {"goal": [1, null]}}}, "x": {}}',
        '{"x": {"command": "a", "command": "b", "limits": {"a": {"goal": [1, null]}}}}',
        '{"x": {"command": "a", "limits": {"a": {"goal": [5, null]}, "a": {"goal": [1, null]}}}}',
        '{"x": {"command": "a", "limits": {"a": {"goal": [5, null], "goal": [1, null]}}}}',
        '{"x": {"command": "a", "limits": {"a": {"goal": [5, null]}}, "limits": {}}}',
    ],
)
def test_a_second_key_that_would_replace_a_limit_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "limits.json").write_text(text)
    with pytest.raises(ValueError, match="every key needs to stand once"):
        read_cases(tmp_path / "limits.json")


def test_differences_of_machines_leave_out_memory_that_is_close() -> None:
    other = MACHINE | {"memory_gib": 40.0, "cores": 4}
    assert machine_differences(MACHINE, MACHINE | {"memory_gib": 23.4}) == []
    assert machine_differences(MACHINE, other) == ["cores: 2 and 4", "memory_gib: 23.5 and 40.0"]
