"""What may become a baseline, and that every published figure is one of a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import app, limits, publish
from benchmarks.app import case_of, settings_asked_for, verdicts_of
from benchmarks.limits import BASELINES, read_cases
from benchmarks.publish import (
    as_baseline,
    keep,
    main,
    of_commit,
    performance_section,
    pooled,
    sections,
)
from benchmarks.result import PUBLISHED, ROOT, Result, read_result, to_json
from tests.unit.benchmarks.parts import MACHINE, baseline, result, row

HOURS = tuple(f"2026-01-01T{hour:02}:00:00+00:00" for hour in (8, 9, 10))


def session(hour: str, *values: float, **changes: Any) -> Result:
    return result(row("speed", *values), **{"measured": (hour,), **changes})


def test_sessions_are_pooled_with_the_values_of_all_runs_in_order_of_time() -> None:
    late, early = session(HOURS[1], 7.0, 8.0, 9.0), session(HOURS[0], 1.0, 2.0, 3.0)
    found = pooled([late, early])
    assert found.measured == HOURS[:2]
    assert found.rows == (row("speed", 1.0, 2.0, 3.0, 7.0, 8.0, 9.0),)
    assert found.rows[0].median == 5.0


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"steps": 6}},
        {"config": {"rollout.actors": 3}},
        {"commit": "c" * 12},
        {"machine": MACHINE | {"cores": 64}},
        {"versions": {"ray": "2"}},
        {"bench": "y"},
        {"rows": (row("other", 1.0),)},
        {"rows": (row("speed", 1.0, unit="ms"),)},
        {"measured": (HOURS[0],)},
    ],
    ids=str,
)
def test_sessions_that_differ_in_more_than_time_are_not_pooled(other: dict[str, Any]) -> None:
    second = replace(session(HOURS[1], 1.0), **other)
    with pytest.raises(ValueError, match=r"sessions must differ|each session counts|every session"):
        pooled([session(HOURS[0], 1.0), second])


@pytest.mark.parametrize(
    "changes",
    [
        {"measured": HOURS[:1]},
        {"measured": (HOURS[0], HOURS[2])},
        {
            "measured": (
                "2026-01-01T08:00:00+00:00",
                *(f"2026-01-01T08:0{n}:00+00:00" for n in (1, 2)),
            )
        },
        {"commit": "b" * 12 + "+changes"},
        {"commit": "unknown"},
    ],
    ids=str,
)
def test_a_baseline_is_of_a_commit_and_of_several_hours(changes: dict[str, Any]) -> None:
    whole = result(measured=HOURS)
    assert as_baseline(whole) == whole
    with pytest.raises(ValueError, match=r"a baseline needs|must be of a commit"):
        as_baseline(replace(whole, **changes))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of baselines with limits of one case, and one for published results beside it."""
    for module in (app, limits, publish):
        monkeypatch.setattr(module, "BASELINES", tmp_path)
    monkeypatch.setattr(publish, "PUBLISHED", tmp_path / "published")
    demanded = {"speed": {"goal": [5.0, None]}, "gone": {"of_baseline": [0.8, None]}}
    cases = {"x": {"command": "t2g bench learner", "limits": demanded}}
    (tmp_path / "limits.json").write_text(json.dumps(cases))
    return tmp_path


def write(folder: Path, *results: Result) -> list[Path]:
    paths = [folder / f"session_{number}.json" for number in range(len(results))]
    for path, one in zip(paths, results, strict=True):
        path.write_text(json.dumps(to_json(one)))
    return paths


def of_case(hour: str, *values: float, **changes: Any) -> Result:
    bench, settings = settings_asked_for("t2g bench learner")
    return session(hour, *values, bench=bench, settings=settings, **changes)


def test_results_are_kept_by_case_and_judged_in_the_section(place: Path) -> None:
    assert "| x | `speed` | >= 5 | not measured | no |" in performance_section(place / "published")
    (path,) = keep(write(place, of_case(HOURS[0], 9.0), of_case(HOURS[1], 7.0)), is_baseline=False)
    assert path == place / "published" / "x.json"
    shown = performance_section(place / "published")
    assert "| x | `speed` | >= 5 | 8 (7 to 9) | yes |" in shown
    assert "| x | `gone` | >= 0.8 x baseline | no such row | no |" in shown
    assert "- x: gone must be >= 0.8 x baseline: gone was not measured" in shown
    assert "| `speed` | 8 | 7 | 9 | tokens/s | 6 | >= 5 |  | yes |" in shown
    assert "Figures: `benchmarks/published/x.json`. Baseline: none." in shown
    assert f"`{of_case(HOURS[0], 9.0).command}`" in shown
    keep(write(place, *(of_case(hour, 9.0) for hour in HOURS)), is_baseline=True)
    assert "`benchmarks/baselines/x.json`, 3 sessions from" in performance_section(
        place / "published"
    )


def test_a_single_session_becomes_no_baseline_and_leaves_the_old_one(place: Path) -> None:
    paths = write(place, *(of_case(hour, 9.0) for hour in HOURS))
    with pytest.raises(ValueError, match="needs 3 sessions"):
        keep(paths[:1], is_baseline=True)
    assert not (place / "x.json").exists()
    assert keep(paths, is_baseline=True) == [place / "x.json"]
    assert read_result(place / "x.json").measured == HOURS


def test_what_no_case_asks_for_is_not_kept(place: Path) -> None:
    other = replace(of_case(HOURS[0], 9.0), settings={"steps": 1})
    with pytest.raises(ValueError, match="only cases"):
        keep(write(place, other), is_baseline=False)


@pytest.mark.parametrize("commit", ["b" * 12 + "+changes", "unknown"])
def test_results_of_code_that_no_commit_holds_are_not_published(place: Path, commit: str) -> None:
    with pytest.raises(ValueError, match="must be of a commit"):
        keep(write(place, of_case(HOURS[0], 9.0, commit=commit)), is_baseline=False)
    assert not list((place / "published").glob("*.json"))


def test_what_is_refused_is_told_in_words_with_an_exit_code(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write(place, replace(of_case(HOURS[0], 9.0), settings={"steps": 1}))
    with pytest.raises(SystemExit) as caught:
        main(["results", str(path)])
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("only cases")


@pytest.mark.parametrize("arguments", [["pages", "a.json"], ["results"], ["baseline"]], ids=str)
def test_files_are_named_where_they_are_needed_and_nowhere_else(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)


def marked(page: str, name: str) -> str:
    """What stands between the marks of a section."""
    return page.partition(f"<!-- {name} -->\n\n")[2].partition(f"\n<!-- end of {name} -->")[0]


@pytest.mark.parametrize("page", sections(), ids=lambda page: page.name)
def test_a_page_shows_exactly_what_the_published_files_say(page: Path) -> None:
    name, text = sections()[page]
    assert text.strip()
    assert marked(page.read_text(encoding="utf-8"), name) == text


MEASURED = re.compile(
    r"(?<![\w.=])\d[\d,]*\.\d+(?![\w.])"
    r"|\d+(?:\.\d+)? ?(?:ms|s|min|GB/s|MiB|GiB|tokens/s|times)\b|\d ?%"
)


def without_sections(text: str) -> str:
    """A page without what is generated, without code, and without table heads."""
    text = re.sub(r"<!-- (.+?) -->.*?<!-- end of \1 -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


@pytest.mark.parametrize("page", sections(), ids=lambda page: page.name)
def test_no_measured_figure_stands_outside_of_a_section(page: Path) -> None:
    assert MEASURED.findall(without_sections(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "mean F1 0.938",
        "in 183 s of GRPO",
        "takes 6 ms",
        "loses 0.009",
        "1.11 GB/s",
        "5 to 8 % today",
        "is 2.9 times as fast",
        "23.5 GiB",
    ],
)
def test_a_measured_figure_in_a_sentence_is_found(text: str) -> None:
    assert MEASURED.findall(without_sections(f"It {text}, as found.\n"))
    assert not MEASURED.findall(without_sections(f"<!-- a.b -->\n{text}\n<!-- end of a.b -->\n"))


def files() -> list[Path]:
    return [PUBLISHED / f"{name}.json" for name in read_cases()]


def test_published_results_are_of_their_case_and_older_baselines_of_several_hours() -> None:
    for path in filter(Path.is_file, files()):
        found, known = read_result(path), BASELINES / path.name
        case = case_of(found)
        assert case is not None and case.name == path.stem
        of_commit(found)
        if known.is_file():
            older = as_baseline(read_result(known))
            relative = [limit.metric for limit in case.limits if limit.of_baseline]
            assert [metric for metric in relative if older.row(metric) is None] == []
            assert max(read_result(known).measured) < min(found.measured)
            assert read_result(known).commit != found.commit
        assert len(verdicts_of(found, case)) == len(case.limits)
    kept = {path.stem for path in BASELINES.glob("*.json")} - {"limits"}
    assert kept <= set(read_cases())
    known_names = {*read_cases(), "seeds", "ablations"}
    assert {path.stem for path in PUBLISHED.glob("*.json")} <= known_names


def test_a_result_held_against_the_baseline_it_is_part_of_misses() -> None:
    found = result(measured=HOURS)
    case = limits.Case(
        name="x", command="", limits=(limits.Limit(metric="speed", of_baseline=(0.8, None)),)
    )
    for known in (baseline(measured=HOURS), baseline(commit=found.commit)):
        assert not limits.judge(found, case, known)[0].is_met


def test_pages_are_those_of_the_repository() -> None:
    assert {page.relative_to(ROOT).as_posix() for page in sections()} == {
        "docs/performance.md",
        "docs/ablations.md",
        "docs/results.md",
    }
