"""The report page: complete, self-contained, safe, and useful on any run folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.report import write_report
from t2g_ray.report.load import SampleLine
from t2g_ray.report.run_page import choose_samples
from t2g_ray.run.folder import RunDir
from tests.unit.report.graphs import GOLD, PREDICTED, TEXT


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
