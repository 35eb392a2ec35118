"""The results page: its table by hand, and what it leaves as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quality.seeds import against_continued, steps_in, table
from benchmarks.result import write_section

FOUND, MISSED = [1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]


def test_the_table_compares_grpo_with_both_ways_of_sft() -> None:
    def figures(entities: float, relations: float) -> dict[str, float]:
        return {"f1/entities": entities, "f1/relations": relations, "json_valid_rate": 1.0}

    rival = {**figures(0.7, 0.5), "interval_of_grpo": (0.05, 0.15)}
    result = {
        "before": figures(0.6, 0.4),
        "sft_continued": rival,
        "after": figures(0.8, 0.6),
        "interval": {"f1/mean": [0.1, 0.3]},
    }
    assert table({4: result}).splitlines()[2:] == [
        "| 4 | SFT | 0.600 | 0.400 | 0.500 | 1.000 |  |  |",
        "| 4 | SFT continued | 0.700 | 0.500 | 0.600 | 1.000 |  |  |",
        "| 4 | SFT + GRPO | 0.800 | 0.600 | 0.700 | 1.000 "
        "| +0.200 [+0.100, +0.300] | +0.100 [+0.050, +0.150] |",
    ]


def test_the_last_evaluation_of_grpo_is_paired_with_sft_continued(tmp_path: Path) -> None:
    evals, by_record = tmp_path / "evals.jsonl", tmp_path / "continued.jsonl"
    lines = [
        {"split": "heldout", "by_record": [MISSED] * 3},
        {"split": "heldout", "by_record": [FOUND] * 3},
        {"split": "heldout_names", "by_record": [MISSED] * 3},
    ]
    evals.write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = {"entities": MISSED[:3], "relations": MISSED[3:]}
    by_record.write_text(3 * (json.dumps(line) + "\n"))
    assert against_continued(evals, by_record) == (1.0, 1.0)


def test_sft_gets_the_steps_that_fit_at_its_pace_without_the_start(tmp_path: Path) -> None:
    lines = [{"step": 1, "time_s": 20.0}, {"step": 101, "time_s": 70.0}]  # 2 steps a second
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert steps_in(tmp_path, 30.0) == 60
    assert steps_in(tmp_path, 0.0) == 1


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
