"""The results page: its table by hand, and what it leaves as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quality import seeds
from benchmarks.quality.seeds import (
    against_continued,
    published,
    run_seed,
    section,
    steps_in,
    table,
)

FOUND, MISSED = [1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]


def figures(entities: float, relations: float) -> dict[str, float]:
    return {"f1/entities": entities, "f1/relations": relations, "json_valid_rate": 1.0}


RESULT = {
    "records": 512,
    "sft_wall_s": 10.0,
    "grpo_wall_s": 20.0,
    "wall_s": 31.0,
    "before": figures(0.6, 0.4),
    "sft_continued": {**figures(0.7, 0.5), "interval_of_grpo": (0.05, 0.15)},
    "after": figures(0.8, 0.6),
    "interval": {"f1/mean": [0.1, 0.3]},
}


def test_the_table_compares_grpo_with_both_ways_of_sft() -> None:
    document = published({4: RESULT}, "python -m benchmarks.quality.seeds")
    # As read from a file.
    document = json.loads(json.dumps(document))
    assert table(document).splitlines()[2:] == [
        "| 4 | SFT | 0.600 | 0.400 | 0.500 | 1.000 |  |  |",
        "| 4 | SFT continued | 0.700 | 0.500 | 0.600 | 1.000 |  |  |",
        "| 4 | SFT + GRPO | 0.800 | 0.600 | 0.700 | 1.000 "
        "| +0.200 [+0.100, +0.300] | +0.100 [+0.050, +0.150] |",
    ]
    shown = section(document)
    assert "seed 4: SFT 10 s, GRPO 20 s, all 31 s" in shown
    assert f"code {document['made_by']['code']}" in shown


def test_a_run_that_other_code_made_or_nobody_signed_is_not_taken_for_this_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "run_t2g", lambda *arguments: pytest.fail("it must not be used"))
    folder = tmp_path / "seed_3"
    folder.mkdir()
    (folder / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="different code"):
        run_seed(3, tmp_path)


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
