"""The report page: complete, self-contained, safe, and useful on any run folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.report import write_report
from t2g_ray.report.graph_diff import compare, marked_text
from t2g_ray.report.headline import Cell, cards, tables
from t2g_ray.report.load import SampleLine
from t2g_ray.report.plots.curves import MAX_POINTS, figures, running_mean
from t2g_ray.report.plots.drawing import MAX_NODES, draw_both
from t2g_ray.report.run_page import choose_samples
from t2g_ray.run.folder import RunDir

GOLD = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Acme", "company"), Entity(2, "Rome", "city")),
    (Relation("Ann", "Acme", "works for"), Relation("Acme", "Rome", "based in")),
)
PREDICTED = Graph(
    (Entity(0, " Ann ", "person"), Entity(1, "Acme", "city")),
    (Relation("Ann", "Acme", "works for"), Relation("Rome", "Acme", "based in")),
)
TEXT = "Ann works for Acme in Rome, not for Acmes."


def sample_line(**changes: Any) -> dict[str, Any]:
    line: dict[str, Any] = {
        "step": 2,
        "policy_version": 2,
        "prompt_index": 0,
        "text": TEXT,
        "entity_types": ["person"],
        "relation_types": ["works for"],
        "gold": GOLD.to_dict(),
        "completion": "{...}",
        "predicted": PREDICTED.to_dict(),
        "parse": "ok",
        "reward": 1.25,
        "parts": {"json": 1.0},
        "split": "heldout",
    }
    return {**line, **changes}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def page_without_plotly(run_dir: RunDir) -> str:
    page = write_report(run_dir).read_text("utf-8")
    return re.sub(r"<script>\s*/\*\*\s*\* plotly.*?</script>", "", page, flags=re.DOTALL)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path / "demo")
    run_dir.path.mkdir()
    run_dir.config.write_text("seed: 7  # <b>\n")
    steps = [
        {"step": step, "reward/mean": 0.1 * step, "reward/json": 1.0, "time/train_s": 1.0}
        for step in (1, 2)
    ]
    write_lines(run_dir.metrics, steps)
    evals = [{"step": s, "split": "heldout", "f1/entities": 0.25 * s} for s in (1, 2)]
    write_lines(run_dir.evals, evals)
    write_lines(run_dir.samples, [sample_line()])
    summary = {
        "before": {"f1/entities": 0.25, "f1/relations": 0.125, "json_valid_rate": 0.5},
        "after": {"f1/entities": 0.5, "f1/relations": 0.1, "json_valid_rate": 1.0},
        "records": 200,
        "machine": {"cpu": "16 cores"},
        "versions": {"ray": "2.60.0"},
    }
    run_dir.report_json.write_text(json.dumps(summary))
    return run_dir


def test_the_page_shows_results_curves_examples_and_how_it_was_made(run_dir: RunDir) -> None:
    page = page_without_plotly(run_dir)
    assert "+25.0 points" in page and "-2.5 points" in page
    assert "<b>200</b>" in page
    assert "Parts of the reward" in page and "Time of a step" in page
    assert "reward 1.25, held out, step 2" in page
    assert "2 of 3 entities and 1 of 2 relations missed" in page
    assert "1 of 2 entities and 1 of 2 relations wrong" in page
    assert "16 cores" in page and "2.60.0" in page
    assert "seed: 7  # &lt;b&gt;" in page


def test_the_page_needs_no_other_host(run_dir: RunDir) -> None:
    page = write_report(run_dir).read_text("utf-8")
    assert "default-src 'none'" in page
    assert "plotly.js v" in page
    own = page_without_plotly(run_dir)
    assert "plotly.js v" not in own
    assert not re.search(r"https?://|\bsrc=|<link|@import|url\((?!#)", own)


def test_text_from_data_never_becomes_markup(run_dir: RunDir) -> None:
    attack = "<script>alert('x')</script>"
    bad = Graph((Entity(0, attack, attack),), (Relation(attack, attack, attack),)).to_dict()
    hostile = {"completion": attack, "parse": attack, "parts": {attack: 1.0}}
    lines = [
        sample_line(text=f"{attack} one", gold=bad, predicted=bad, **hostile),
        sample_line(text=f"{attack} two", gold=bad, predicted=None, **hostile),
    ]
    write_lines(run_dir.samples, lines)
    write_lines(run_dir.metrics, [{"step": 1, f"reward/{attack}": 1.0}])
    run_dir.config.write_text(attack)
    run_dir.report_json.write_text(json.dumps({"machine": {attack: attack}, "seed": attack}))
    page = page_without_plotly(run_dir)
    assert "&lt;script&gt;alert(" in page
    assert "<script>alert(" not in page
    assert page.count("<script") == 1  # the one that draws the curves


def test_an_empty_folder_gives_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    page = page_without_plotly(RunDir(tmp_path))
    for name in ("config.yaml", "metrics.jsonl", "evals.jsonl", "samples.jsonl", "report.json"):
        assert f"{name} is not there yet" in page
    assert "No step is recorded yet" in page and "No sample is recorded yet" in page
    assert "<script" not in page


def test_damaged_files_are_named_and_the_rest_is_shown(run_dir: RunDir) -> None:
    run_dir.report_json.write_text("[]")
    run_dir.metrics.write_text("oops\n")
    write_lines(run_dir.samples, [{"split": "heldout", "step": 1}])
    page = page_without_plotly(run_dir)
    assert "report.json cannot be read: it must be a JSON object, found list" in page
    assert "metrics.jsonl cannot be read" in page
    assert "samples.jsonl cannot be read" in page
    assert "F1, exact micro" in page  # from the evaluations


def test_a_lone_surrogate_does_not_stop_the_page(run_dir: RunDir) -> None:
    write_lines(run_dir.samples, [sample_line(predicted=None, completion="cut \ud83d")])
    assert "cut ?" in page_without_plotly(run_dir)


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found nothing at"):
        write_report(RunDir(tmp_path / "none"))


def test_a_running_run_shows_its_first_and_newest_evaluation() -> None:
    evals = [
        {"step": 0, "split": "heldout", "f1/entities": 0.2},
        {"step": 5, "split": "train", "f1/entities": 0.9},
        {"step": 10, "split": "heldout", "f1/entities": 0.3},
    ]
    (table,) = tables({}, evals)
    assert table.columns == ("First, step 0", "Newest, step 10", "Change")
    assert table.rows == (
        ("Entity F1, exact", (Cell("20.0"), Cell("30.0"), Cell("+10.0", "", True))),
    )
    assert tables({}, []) == []
    assert tables({}, [{"step": 5, "split": "heldout", "loss": 0.5}]) == []


def test_the_table_shows_intervals_more_sft_and_unseen_names() -> None:
    before = {"f1/relations": 0.5, "interval": {"f1/relations": [0.45, 0.55]}}
    after = {"f1/relations": 0.4}
    summary = {
        "before": before,
        "after": after,
        "sft_continued": {"f1/relations": 0.45},
        "interval": {"f1/relations": [-0.15, -0.05]},
        "heldout_names": {"before": after, "after": before},
    }
    main, names = tables(summary, [])
    assert main.columns == ("Before GRPO", "More SFT instead", "After GRPO", "Change")
    assert main.rows[0][1] == (
        Cell("50.0", "45.0 to 55.0"),
        Cell("45.0"),
        Cell("40.0"),
        Cell("-10.0", "-15.0 to -5.0", False),
    )
    assert cards(main) == [("Relation F1, exact", *(main.rows[0][1][i] for i in (0, 2, 3)))]
    assert names.columns == ("Before GRPO", "After GRPO", "Change")
    assert names.rows[0][1][2] == Cell("+10.0", "", True)


def test_every_item_of_both_graphs_gets_its_status() -> None:
    gold, predicted = compare(GOLD, PREDICTED)
    assert gold.entities == {
        ("Ann", "person"): "match",
        ("Acme", "company"): "missed",
        ("Rome", "city"): "missed",
    }
    assert predicted.entities == {("Ann", "person"): "match", ("Acme", "city"): "wrong"}
    assert gold.relations == {
        ("Ann", "Acme", "works for"): "match",
        ("Acme", "Rome", "based in"): "missed",
    }
    assert predicted.relations == {
        ("Ann", "Acme", "works for"): "match",
        ("Rome", "Acme", "based in"): "wrong",
    }


def test_mentions_are_marked_as_whole_words_and_absent_ones_listed() -> None:
    gold, predicted = compare(GOLD, Graph((Entity(0, "Ann", "person"), Entity(1, "Bo", "x")), ()))
    marked, absent = marked_text(TEXT, gold, predicted)
    assert marked == (
        '<mark class="match">Ann<small>\u2713 person</small></mark> works for '
        '<mark class="missed">Acme<small>\u2013 company</small></mark> in '
        '<mark class="missed">Rome<small>\u2013 city</small></mark>, not for Acmes.'
    )
    assert absent == ["Bo"]


def test_longer_mentions_win_and_texts_without_spaces_are_marked_too() -> None:
    def marks(text: str, *mentions: str) -> list[str]:
        graph = Graph(tuple(Entity(i, m, "t") for i, m in enumerate(mentions)), ())
        return re.findall(r"<mark[^>]*>([^<]*)", marked_text(text, *compare(graph, graph))[0])

    assert marks("New York is in York", "York", "New York") == ["New York", "York"]
    assert marks("\u5317\u4eac\u662f\u9996\u90fd", "\u5317\u4eac") == ["\u5317\u4eac"]
    assert marks("nothing here") == []


def test_both_drawings_place_a_text_at_the_same_point() -> None:
    def places(svg: str) -> dict[str, str]:
        return {
            name: at for at, name in re.findall(r'class="name" (x="[^"]*" y="[^"]*")>([^<]*)', svg)
        }

    gold, predicted = draw_both(*compare(GOLD, PREDICTED))
    assert places(gold).keys() == {"Ann", "Acme", "Rome"}
    assert places(gold) == places(predicted)  # Rome is an end there, though not an entity
    assert "not an entity" in predicted and "not an entity" not in gold
    assert 'class="edge missed"' in gold and 'class="edge wrong"' in predicted
    assert draw_both(*compare(GOLD, PREDICTED)) == (gold, predicted)


def test_empty_single_looped_and_huge_graphs_are_drawn() -> None:
    empty = Graph((), ())
    assert "empty graph" in draw_both(*compare(empty, empty))[0]
    loop = Graph((Entity(0, "A", "t"),), (Relation("A", "A", "r"),))
    assert draw_both(*compare(loop, empty))[0].count('class="edge') == 1
    many = Graph(tuple(Entity(i, f"n{i}", "t") for i in range(500)), ())
    assert draw_both(*compare(many, empty))[0].count("<rect") == MAX_NODES


def test_parallel_and_opposite_relations_get_different_curves() -> None:
    ends = ("A", "B")
    graph = Graph(
        (Entity(0, "A", "t"), Entity(1, "B", "t")),
        (Relation(*ends, "r"), Relation(*ends, "s"), Relation(*ends[::-1], "r")),
    )
    svg = draw_both(*compare(graph, graph))[0]
    middles = re.findall(r" Q([-\d.,]+) ", svg)
    assert len(set(middles)) == 3


def test_figures_hold_only_what_the_run_has() -> None:
    metrics: list[dict[str, float | None]] = [
        {"step": 1, "loss": 0.5, "reward/mean": 1.0, "reward/json": 0.25},
        {"step": 2, "loss": None, "reward/mean": 2.0, "reward/json": 0.75},
    ]
    evals = [{"step": 2, "split": "heldout", "f1/entities": 0.5}]
    shown = {figure["title"]: figure["data"] for figure in figures(metrics, evals)}
    assert list(shown) == ["Reward", "F1, exact micro", "Parts of the reward", "Loss"]
    assert (shown["Loss"][0]["x"], shown["Loss"][0]["y"]) == ([1], [0.5])
    assert [trace["name"] for trace in shown["Parts of the reward"]] == ["json"]
    assert [trace["name"] for trace in shown["F1, exact micro"]] == ["entities, held out"]
    assert figures([], []) == []
    (held_out,) = figures([], [{"step": 5, "split": "heldout", "loss": 0.75}])
    assert (held_out["title"], held_out["data"][0]["y"]) == ("Loss", [0.75])


def test_long_runs_are_thinned_to_means_of_neighbours() -> None:
    metrics = [{"step": step, "loss": float(step)} for step in range(1, 4 * MAX_POINTS + 1)]
    (figure,) = figures(metrics, [])
    faint, smooth = figure["data"]
    assert len(faint["x"]) == len(smooth["y"]) == MAX_POINTS
    assert (faint["x"][0], faint["y"][0]) == (2.5, 2.5)


def test_the_running_mean_looks_back_only() -> None:
    assert running_mean([1.0, 3.0, 5.0, 1.0], 2) == [1.0, 2.0, 4.0, 3.0]


def test_examples_run_evenly_from_best_to_worst_of_the_held_out_texts() -> None:
    def sample(index: int, split: str) -> SampleLine:
        return SampleLine(
            step=1,
            split=split,
            text=f"{split} {index}",
            gold=GOLD,
            predicted=None,
            completion="",
            parse="no_json",
            reward=float(index),
            parts={},
        )

    held_out = [sample(index, "heldout") for index in range(15)]
    train = [sample(index, "train") for index in range(3)]
    rewards = [chosen.reward for chosen in choose_samples(train + held_out)]
    assert rewards == [14.0, 12.0, 10.0, 8.0, 6.0, 4.0, 2.0, 0.0]
    assert [chosen.reward for chosen in choose_samples(train)] == [2.0, 1.0, 0.0]
    assert [chosen.reward for chosen in choose_samples(train[:1])] == [0.0]
    assert choose_samples([]) == []


def test_only_samples_of_the_newest_step_are_shown(run_dir: RunDir) -> None:
    write_lines(run_dir.samples, [sample_line(step=1, text="old"), sample_line(step=9)])
    page = page_without_plotly(run_dir)
    assert "step 9" in page and ">old<" not in page
