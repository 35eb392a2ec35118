"""Benchmark results: rows over runs, the JSON form, and what baselines and limits make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.result import (
    BASELINES,
    ResultRow,
    compare,
    document,
    main,
    make_row,
    ratio_row,
    report,
)


def result(rows: list[dict[str, Any]], cores: int = 2) -> dict[str, Any]:
    return {"bench": "x", "machine": {"cores": cores}, "versions": {}, "rows": rows}


def row(metric: str, median: float, unit: str = "tokens/s") -> dict[str, Any]:
    return {
        "metric": metric,
        "median": median,
        "min": median,
        "max": median,
        "unit": unit,
        "runs": 1,
    }


def test_a_row_has_the_median_and_the_ends_of_all_runs() -> None:
    assert make_row("speed", [3.0, 9.0, 4.0], "tokens/s") == ResultRow(
        metric="speed", median=4.0, min=3.0, max=9.0, unit="tokens/s", runs=3
    )


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_a_row_refuses_to_stand_for_nothing_or_for_what_is_not_finite(values: list[float]) -> None:
    with pytest.raises(ValueError, match="speed needs a finite value"):
        make_row("speed", values, "tokens/s")


def test_a_ratio_is_taken_run_by_run_and_not_of_medians() -> None:
    # 10/5, 30/10, 20/20 = 2, 3, 1; the ratio of the medians would be 20/10 = 2 as well, so the
    # ends tell: min 1 and max 3 come from pairs.
    found = ratio_row("a_over_b", [10.0, 30.0, 20.0], [5.0, 10.0, 20.0])
    assert (found.median, found.min, found.max, found.unit) == (2.0, 1.0, 3.0, "ratio")


def test_sides_of_a_ratio_must_have_the_same_runs() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio_row("a_over_b", [1.0, 2.0], [1.0])


def test_the_document_has_the_keys_that_readers_rely_on() -> None:
    rows = [make_row("speed", [1.0, 2.0, 3.0], "tokens/s")]
    content = document("rollout", rows, "t2g bench rollout")
    assert list(content) == ["bench", "command", "machine", "versions", "rows"]
    assert content["rows"] == [
        {"metric": "speed", "median": 2.0, "min": 1.0, "max": 3.0, "unit": "tokens/s", "runs": 3}
    ]
    assert content["machine"]["cores"] >= 1
    assert "python" in content["versions"]


def test_a_goal_bounds_the_median_itself() -> None:
    limits = {"speed": {"goal": (5.0, None)}}
    good, bad = (compare(result([row("speed", s)]), {}, limits)[0] for s in (5.0, 4.9))
    assert (good.is_ok, good.expected, good.baseline) == (True, ">= 5", None)
    assert bad.is_ok is False


def test_a_baseline_bounds_the_ratio_to_its_median() -> None:
    limits = {"speed": {"of_baseline": (0.8, 1.5)}}
    baseline = result([row("speed", 100.0)])
    verdicts = [compare(result([row("speed", s)]), baseline, limits)[0] for s in (80, 79, 150, 151)]
    assert [verdict.is_ok for verdict in verdicts] == [True, False, True, False]
    assert verdicts[0].baseline == 100.0
    assert verdicts[0].expected == ">= 0.8 and <= 1.5 x baseline"


def test_goal_and_baseline_must_both_hold() -> None:
    limits = {"speed": {"goal": (50.0, None), "of_baseline": (0.8, None)}}
    verdict = compare(result([row("speed", 60.0)]), result([row("speed", 100.0)]), limits)[0]
    assert verdict.is_ok is False
    assert verdict.expected == ">= 50, >= 0.8 x baseline"


def test_speeds_of_another_machine_are_not_compared_but_ratios_are() -> None:
    limits = {name: {"of_baseline": (0.8, None)} for name in ("speed", "share")}
    baseline = result([row("speed", 100.0), row("share", 0.5, "share")], cores=64)
    found = result([row("speed", 1.0), row("share", 0.1, "share")], cores=2)
    speed, share = compare(found, baseline, limits)
    assert (speed.is_ok, speed.baseline) == (None, None)
    assert (share.is_ok, share.baseline) == (False, 0.5)


def test_a_row_without_limits_gets_no_verdict() -> None:
    assert compare(result([row("speed", 1.0)]), {}, {})[0].is_ok is None


def test_the_report_writes_the_file_and_prints_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "rollout.json"
    verdicts = report("rollout", [make_row("actor_over_vllm", [0.9], "ratio")], "", path)
    assert verdicts[0].is_ok is False  # the goal in limits.json is 0.95
    assert json.loads(path.read_text())["rows"][0]["median"] == 0.9
    printed = capsys.readouterr().out
    assert "actor_over_vllm" in printed
    assert "outside" in printed


def test_files_become_sections_with_command_figures_target_and_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rollout.json"
    rows = [row("actor_over_vllm", 0.9, "ratio"), row("generated_tokens_per_s/vllm", 12345.6)]
    facts = {"bench": "rollout", "command": "t2g bench rollout", "versions": {"ray": "1.2"}}
    path.write_text(json.dumps({**facts, "machine": {"cores": 3}, "rows": rows}))
    main([str(path)])
    assert capsys.readouterr().out.splitlines() == [
        "### rollout",
        "",
        "`t2g bench rollout`",
        "",
        "| metric | median | min | max | unit | runs | target | met |",
        "|---|--:|--:|--:|---|--:|---|---|",
        "| `actor_over_vllm` | 0.9 | 0.9 | 0.9 | ratio | 1 | >= 0.95 | no |",
        "| `generated_tokens_per_s/vllm` | 12,346 | 12,346 | 12,346 | tokens/s | 1 |  |  |",
        "",
        "Measured on: cores 3, ray 1.2.",
        "",
    ]


def test_limits_are_pairs_of_bounds_of_known_benchmarks() -> None:
    limits = json.loads((BASELINES / "limits.json").read_text())
    assert set(limits) <= {"rollout", "rewards", "sync", "learner", "loop", "peers", "scale"}
    for metrics in limits.values():
        for kinds in metrics.values():
            assert set(kinds) <= {"goal", "of_baseline"}
            for bounds in kinds.values():
                assert len(bounds) == 2
                assert any(bound is not None for bound in bounds)
