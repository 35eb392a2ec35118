"""`t2g score` figures by hand, from files."""

import json
from pathlib import Path

import pytest

from t2g_ray.evaluation.files import score_files
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.records.jsonl import write_records
from t2g_ray.types import Record


def record(graph: Graph) -> Record:
    return Record(
        text="Ann of Acme in Rome",
        entity_types=("person", "company"),
        relation_types=("works for",),
        graph=graph,
    )


FULL = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Acme", "company")),
    (Relation("Ann", "Acme", "works for"),),
)
EMPTY = Graph((), ())
LOWER = FULL.to_json().replace("Ann", "ann")


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    write_records(
        tmp_path / "gold.jsonl", [record(FULL), record(FULL), record(FULL), record(EMPTY)]
    )
    return tmp_path / "gold.jsonl"


def completions(path: Path, *texts: str) -> Path:
    path.write_text("".join(json.dumps({"completion": text}) + "\n" for text in texts))
    return path


def test_figures_by_hand(gold: Path, tmp_path: Path) -> None:
    # Right; one entity in lower case (and with it the relation); no JSON; a right silence.
    path = completions(tmp_path / "c.jsonl", FULL.to_json(), LOWER, "sorry", EMPTY.to_json())
    figures = score_files(gold, path, preset="f1", per_record=None)
    assert figures == pytest.approx(
        {
            "f1/entities": 2 * 3 / (2 * 3 + 1 + 3),  # tp 3, fp 1, fn 3
            "f1/relations": 2 * 1 / (2 * 1 + 1 + 2),  # tp 1, fp 1, fn 2
            "f1_relaxed/entities": 2 * 4 / (2 * 4 + 0 + 2),
            "f1_relaxed/relations": 2 * 2 / (2 * 2 + 0 + 1),
            "f1_strict/relations": 2 * 1 / (2 * 1 + 1 + 2),
            "precision/entities": 3 / 4,
            "precision/relations": 1 / 2,
            "recall/entities": 3 / 6,
            "recall/relations": 1 / 3,
            "json_valid_rate": 3 / 4,
            "reward/mean": (2 + 0.5 + 0 + 2) / 4,
            "reward/f1_entities": (1 + 0.5 + 0 + 1) / 4,
            "reward/f1_relations": (1 + 0 + 0 + 1) / 4,
            "records": 4,
        }
    )


def test_a_line_for_each_record_tells_reward_parts_and_parse_kind(
    gold: Path, tmp_path: Path
) -> None:
    path = completions(tmp_path / "c.jsonl", FULL.to_json(), LOWER, "sorry", EMPTY.to_json())
    score_files(gold, path, preset="f1", per_record=tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    assert [line["reward"] for line in lines] == [2.0, 0.5, 0.0, 2.0]
    assert [line["parse"] for line in lines] == ["ok", "ok", "no_json", "ok"]
    assert lines[1]["parts"] == {"f1_entities": 0.5, "f1_relations": 0.0}
    assert (lines[1]["entities"], lines[1]["relations"]) == ([1, 1, 1], [0, 1, 1])


def test_files_of_unequal_length_are_refused(gold: Path, tmp_path: Path) -> None:
    path = completions(tmp_path / "c.jsonl", "a", "b")
    with pytest.raises(ValueError, match=r"one completion for each of the 4 records.*found 2"):
        score_files(gold, path, preset="f1", per_record=None)


@pytest.mark.parametrize("line", ['{"text": "a"}', '"a"', '{"completion": null}', "{"])
def test_a_bad_line_of_completions_is_named(line: str, gold: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"completion": "a"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"c\.jsonl:2: (a line )?must be"):
        score_files(gold, path, preset="f1", per_record=None)


def test_an_unknown_preset_is_refused(gold: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown reward preset 'best'"):
        score_files(gold, completions(tmp_path / "c.jsonl"), preset="best", per_record=None)
