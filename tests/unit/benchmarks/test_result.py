"""Benchmark results: rows over runs, turns of the sides, and the JSON form."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import result as module
from benchmarks.result import (
    check_count,
    current_commit,
    make_row,
    ratio_row,
    read_result,
    result_from,
    result_of,
    to_json,
    turns,
    write_section,
)
from tests.unit.benchmarks.parts import result, row

NAN, INF = float("nan"), float("inf")


def test_a_row_has_the_median_the_ends_and_the_values_of_all_runs() -> None:
    found = make_row("speed", [3.0, 9.0, 4.0], "tokens/s")
    assert (found.median, found.min, found.max, found.runs) == (4.0, 3.0, 9.0, 3)
    assert found.values == (3.0, 9.0, 4.0)


@pytest.mark.parametrize("values", [[], [1.0, NAN], [INF], [-INF, 1.0], [NAN, NAN, 1.0]])
def test_a_row_refuses_to_stand_for_nothing_or_for_what_is_not_finite(values: list[float]) -> None:
    with pytest.raises(ValueError, match="speed needs a finite value"):
        make_row("speed", values, "tokens/s")


@pytest.mark.parametrize(
    ("metric", "unit", "wrong"),
    [
        ("wall_s_per_step/sync", "s", "ms"),
        ("demo_policy_ms", "ms", "s"),
        ("pack_ms/demo", "ms", "s"),
        ("ms/500m", "ms", "us"),
        ("driver_ms_per_group/64", "ms", "s"),
        ("actor_over_vllm", "ratio", "share"),
        ("ratio_vs_trl/sync", "ratio", "count"),
        ("learner_idle/async_1", "share", "s"),
        ("efficiency_64", "share", "ratio"),
        ("gb_per_s/demo", "GB/s", "GiB/s"),
        ("driver_peak_growth_mib", "MiB", "MB"),
        ("generated_tokens_per_s/actor", "tokens/s", "tokens"),
        ("trained_completions_per_s/trl", "completions/s", "groups/s"),
        ("groups_per_s/64", "groups/s", "ms"),
    ],
)
def test_a_metric_is_in_the_unit_that_its_name_says(metric: str, unit: str, wrong: str) -> None:
    assert make_row(metric, [1.0], unit).unit == unit
    with pytest.raises(ValueError, match=f"{metric} must be in {unit}, found {wrong}"):
        make_row(metric, [1.0], wrong)


@pytest.mark.parametrize(("found", "wanted"), [(0, 1), (7, 8), (9, 8), (0, 100), (1, 0)])
def test_work_that_was_not_done_is_not_divided_by_its_time(found: int, wanted: int) -> None:
    check_count("groups", wanted, wanted)
    with pytest.raises(ValueError, match=f"{wanted} groups must be measured, found {found}"):
        check_count("groups", found, wanted)


def test_a_ratio_is_taken_run_by_run_and_not_of_medians() -> None:
    # 10/5, 30/10, 20/20 = 2, 3, 1; the ratio of the medians would be 20/10 = 2 as well, so the
    # ends tell: min 1 and max 3 come from pairs.
    found = ratio_row("a_over_b", [10.0, 30.0, 20.0], [5.0, 10.0, 20.0])
    assert (found.median, found.min, found.max, found.unit) == (2.0, 1.0, 3.0, "ratio")


def test_sides_of_a_ratio_must_have_the_same_runs() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio_row("a_over_b", [1.0, 2.0], [1.0])


@pytest.mark.parametrize("below", [[], [0.0], [1.0, 0.0], [-1.0], [2.0, -1.0, 3.0]], ids=str)
def test_a_ratio_needs_something_to_divide_by(below: list[float]) -> None:
    with pytest.raises(ValueError, match="a_over_b needs values above 0"):
        ratio_row("a_over_b", [1.0] * len(below), below)


@given(st.integers(1, 7), st.integers(0, 5))
def test_every_side_has_each_place_equally_often(num_sides: int, cycles: int) -> None:
    sides = list(range(num_sides))
    orders = [turns(sides, number) for number in range(cycles * num_sides)]
    assert all(sorted(order) == sides for order in orders)
    for place in sides:
        assert sorted(order[place] for order in orders) == sorted(cycles * sides)


def test_the_document_has_the_keys_that_readers_rely_on() -> None:
    made = result_of(
        "rollout",
        [make_row("speed", [1.0, 2.0, 3.0], "tokens/s")],
        command="t2g bench rollout",
        settings={"calls": 4},
        config={"rollout.actors": 2},
    )
    content = to_json(made)
    assert {"bench", "machine", "versions", "rows"} <= content.keys()
    (found,) = content["rows"]
    assert {key: found[key] for key in ("metric", "median", "min", "max", "unit", "runs")} == {
        "metric": "speed",
        "median": 2.0,
        "min": 1.0,
        "max": 3.0,
        "unit": "tokens/s",
        "runs": 3,
    }
    assert content["machine"]["cores"] >= 1
    assert "python" in content["versions"]
    assert result_from(content) == made


@pytest.mark.parametrize(
    "change",
    [
        {"median": 9.0},
        {"min": 0.0},
        {"max": 9.0},
        {"runs": 30},
        {"values": []},
        {"values": [1.0, 2.0, NAN]},
        {"values": [2.0]},
    ],
    ids=str,
)
def test_a_file_whose_row_is_not_that_of_its_values_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    content = to_json(result(row("speed", 1.0, 2.0, 3.0)))
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    read_result(path)
    content["rows"][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"x\.json must be a result"):
        read_result(path)


@pytest.mark.parametrize("missing", ["rows", "settings", "config", "commit", "measured", "machine"])
def test_a_file_without_what_figures_depend_on_is_refused(tmp_path: Path, missing: str) -> None:
    content = to_json(result())
    del content[missing]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"x.json must be a result.*{missing}"):
        read_result(path)


@pytest.mark.parametrize("rows", [[], [row("speed", 1.0), row("speed", 2.0)]], ids=["none", "two"])
def test_a_result_has_rows_and_one_of_each_metric(rows: list[Any]) -> None:
    with pytest.raises(ValueError, match="needs rows, one of each metric"):
        result_of("x", rows, command="", settings={}, config={})


def test_code_that_no_commit_holds_is_marked_and_kept_results_are_not_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert current_commit() == "unknown"

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    for folder in ("t2g_ray", "benchmarks/published", "docs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text("old")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    clean = current_commit()
    assert len(clean) == 12
    for folder in ("benchmarks/published", "docs"):
        (tmp_path / folder / "file").write_text("new")
    assert current_commit() == clean
    (tmp_path / "t2g_ray" / "file").write_text("new")
    assert current_commit() == f"{clean}+changes"


@pytest.mark.parametrize("old", ["", "# Title\n", "# Title\n<!-- x -->\nold\n<!-- end of x -->\n"])
def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path, old: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(old)
    write_section(page, "x", "new")
    title = "# Title\n" if old else ""
    assert page.read_text() == f"{title}<!-- x -->\n\nnew\n<!-- end of x -->\n"
    page.write_text(page.read_text() + "tail\n")
    write_section(page, "x", "newer")
    assert page.read_text() == f"{title}<!-- x -->\n\nnewer\n<!-- end of x -->\ntail\n"
