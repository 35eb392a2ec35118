"""Planned beside measured memory; the runs themselves take minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.planned import memory
from benchmarks.planned.memory import (
    CASES,
    MIB,
    Compared,
    Measured,
    compared,
    main,
    planned_parts,
    read_measured,
    table,
)
from benchmarks.planned.resident import Resident

ROOT = Path(__file__).resolve().parents[4]


def test_both_models_stages_and_ways_of_sharding_are_cases() -> None:
    assert len({case.name for case in CASES}) == 8
    for case in CASES:
        config = case.config(Path("x"), "embedded")
        assert config.learner.zero_stage == case.zero_stage
        assert config.learner.ranks == 2


def test_an_engine_is_planned_where_the_stage_has_one(tmp_path: Path) -> None:
    planned = {
        case.stage: planned_parts(case.config(tmp_path, "embedded"), "embedded")
        for case in CASES
        if case.model == "demo"
    }
    assert planned["sft"].keys() == {"learner"}
    assert planned["grpo"].keys() == {"learner", "engine"}
    assert planned["grpo"]["engine"]["KV cache"] == 1024 * MIB


def test_the_plan_is_within_15_percent_of_what_was_measured_in_every_case() -> None:
    rows = compared(read_measured())
    kinds = {(row.measured.case, row.measured.process) for row in rows}
    assert len(kinds) == len(rows) == 12  # 8 ranks of learners, 4 engines
    assert {
        f"{row.measured.case}: {row.error:+.0%}" for row in rows if abs(row.error) > 0.15
    } == set()


def test_the_page_shows_the_plan_of_today_beside_what_was_measured() -> None:
    page = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    assert table(compared(read_measured())) in page


def test_the_table_tells_by_how_much_the_plan_is_wrong() -> None:
    found = Measured(case="demo sft ZeRO 0", process="learner", num_bytes=100 * MIB)
    row = Compared(measured=found, planned=90 * MIB)
    assert row.error == pytest.approx(-0.1)
    assert table([row]).splitlines()[-1] == "| demo sft ZeRO 0 | learner | 90 | 100 | -10% |"


def test_runs_are_kept_with_those_of_other_cases_and_compared_by_titles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(command: list[str], *, limit_s: float) -> Resident:
        assert limit_s > 60
        titles = {1: {"ray::LearnerActor.step"}, 2: {"ray::RolloutActor"}, 3: {"other"}}
        size = 600 if command[-2] == "grpo" else 500
        return Resident({1: size * MIB, 2: 2000 * MIB, 3: 9000 * MIB}, titles)

    monkeypatch.setattr(memory, "watch", measured)
    figures = ("--figures", str(tmp_path / "figures.json"))
    main(["--only", "demo", "grpo", "3", *figures])
    main(["--only", "demo", "sft", "0", *figures, "--page", str(tmp_path / "page.md")])
    shown = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| 2,000 |" in shown
    assert [line.split(" | ")[3] for line in shown.splitlines() if "learner" in line] == [
        "500",
        "600",
    ]
