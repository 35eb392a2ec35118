"""Rows -> records with their types settled, repeats merged and faults named."""

from pathlib import Path
from typing import Any

import pytest

from t2g_ray.data.importers.finish import ImportOptions
from t2g_ray.data.importers.run import (
    import_source,
    read_types_map,
)
from t2g_ray.data.importers.source import Source
from t2g_ray.records.jsonl import record_to_dict
from tests.unit.data.importers.parts import TOKENS, entities, lines, read, relations, write

SPERT_ROW: dict[str, Any] = {
    "tokens": TOKENS,
    "entities": [{"type": "Peop", "start": 0, "end": 2}, {"type": "Org", "start": 3, "end": 5}],
    "relations": [{"type": "Work_For", "head": 0, "tail": 1}],
}

SCIER_ROW = {
    "doc_id": "7",
    "sentence": "Ada Stone joined Orbit Mills .",
    "ner": [["Ada Stone", "Peop"], ["Orbit Mills", "Org"]],
    "rel": [["Ada Stone", "Work_For", "Orbit Mills"]],
}


def test_types_are_renamed_dropped_or_written_as_words(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", [SPERT_ROW])
    renamed = read(path, types_map={"Peop": "person"}, plain_types=True).records[0]
    assert entities(renamed) == [("Ada Stone", "person"), ("Orbit Mills", "org")]
    assert relations(renamed) == [("Ada Stone", "Orbit Mills", "work for")]
    dropped = read(path, types_map={"Org": ""})
    assert entities(dropped.records[0]) == [("Ada Stone", "Peop")]
    assert relations(dropped.records[0]) == []
    assert sum(dropped.changes.values()) == 2


def test_types_from_options_come_before_the_schema_file_and_both_before_those_seen(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "rows.json", [SPERT_ROW])
    schema = write(
        tmp_path / "my_types.json",
        {"entities": {"Peop": {}, "Org": {}, "Loc": {}}, "relations": {"Work_For": {}, "Kill": {}}},
    )
    (record,) = read(path).records
    assert record.entity_types == ("Peop", "Org", "Loc")
    source, options = Source.of(str(path)), ImportOptions(entity_types=("Org", "Peop"))
    (record,) = import_source(source, options, schema_file=schema).records
    assert record.entity_types == ("Org", "Peop")
    assert record.relation_types == ("Work_For", "Kill")


def test_a_type_outside_the_schema_rejects_the_row_unless_faults_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", [SPERT_ROW])
    rejected = read(path, entity_types=("Peop",))
    assert rejected.reasons == {"entity_type_outside_schema": 1}
    assert "found 'Org'" in rejected.rejections[0].message
    assert read(path, entity_types=("Peop",), keep_faulty=True).counts["kept"] == 1


def test_repeats_merge_and_relations_of_an_entity_with_itself_go(tmp_path: Path) -> None:
    row = {
        "sentence": "Ada met Ada and Bo .",
        "ner": [["Ada", "P"], ["Ada", "P"], ["Bo", "P"]],
        "rel": [["Ada", "met", "Ada"], ["Ada", "met", "Bo"], ["Ada", "met", "Bo"]],
    }
    result = read(write(tmp_path / "rows.jsonl", lines(row)))
    assert relations(result.records[0]) == [("Ada", "Bo", "met")]
    assert result.changes == {
        "repeated entity merged": 1,
        "repeated relation merged": 1,
        "relation of an entity with itself left out": 1,
    }


TWO_ADAS: dict[str, Any] = {
    "tokens": ["Ada", "left", "Ada", "for", "Bo", "."],
    "entities": [
        {"type": "Peop", "start": 0, "end": 1},
        {"type": "Loc", "start": 2, "end": 3},
        {"type": "Peop", "start": 4, "end": 5},
    ],
}


def relation(head: int, tail: int) -> dict[str, Any]:
    return {"type": "r", "head": head, "tail": tail}


@pytest.mark.parametrize(
    ("head", "tail", "dropped", "kept", "reason"),
    [
        (1, 2, "Loc", [], "relation of a dropped type, or to such an entity, left out"),
        (2, 1, "Loc", [], "relation of a dropped type, or to such an entity, left out"),
        (0, 2, "Loc", [("Ada", "Bo", "r")], ""),
        (1, 2, "", [("Ada", "Bo", "r")], "relation end that is the text of several entities"),
        (2, 0, "", [("Bo", "Ada", "r")], "relation end that is the text of several entities"),
        (0, 1, "", [], "relation between two entities of one text left out"),
        (1, 1, "", [], "relation of an entity with itself left out"),
        (0, 2, "Peop", [], "relation of a dropped type, or to such an entity, left out"),
    ],
)
def test_a_relation_goes_with_its_entity_and_not_to_another_of_the_same_text(
    head: int,
    tail: int,
    dropped: str,
    kept: list[tuple[str, str, str]],
    reason: str,
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "rows.json", [TWO_ADAS | {"relations": [relation(head, tail)]}])
    result = read(path, types_map={dropped: ""} if dropped else {})
    assert relations(result.records[0]) == kept
    reasons = {name for name in result.changes if "relation" in name}
    assert reasons == ({reason} if reason else set())


def test_a_sub_schema_asks_for_no_relation_of_an_entity_that_it_leaves_out(tmp_path: Path) -> None:
    rows = [TWO_ADAS | {"relations": [relation(1, 2)]}] * 60
    path = write(tmp_path / "rows.json", rows)
    for record in read(path, sub_schema_seed=5).records:
        if relations(record):
            assert record.entity_types == ("Peop", "Loc")


def test_spans_of_several_types_are_ends_by_text(tmp_path: Path) -> None:
    row = {
        "tokens": ["Ada", "met", "Bo"],
        "entities": [[0, 1, "P"], [0, 1, "L"], [2, 3, "P"]],
        "relations": [[0, 1, 2, 3, "r"]],
    }
    path = write(tmp_path / "rows.json", [row])
    assert relations(read(path).records[0]) == [("Ada", "Bo", "r")]
    dropped = read(path, types_map={"L": ""})
    assert relations(dropped.records[0]) == []
    assert dropped.changes["relation left out, whose end may be an entity of a dropped type"] == 1


def test_layers_that_a_layout_does_not_read_are_counted(tmp_path: Path) -> None:
    document = {
        "sentences": [["Ada", "ran"], ["Bo", "sat"]],
        "ner": [[[0, 0, "P"]], []],
        "relations": [[], []],
        "clusters": [[[0, 0], [2, 2]], [[1, 1], [3, 3]]],
        "events": [[[[1, "Run"], [0, 0, "Who"]]], []],
        "dataset": "x",
    }
    result = read(write(tmp_path / "rows.jsonl", lines(document)))
    assert result.changes == {"clusters not read": 2, "events not read": 2}


def test_a_name_of_other_tokens_is_not_in_the_text(tmp_path: Path) -> None:
    row = SCIER_ROW | {"ner": [["Ada", "P"], ["Zed", "P"]], "rel": []}
    path = write(tmp_path / "rows.jsonl", lines(row))
    assert read(path).reasons == {"entity_not_in_text": 1}
    assert entities(read(path, keep_faulty=True).records[0]) == [("Ada", "P"), ("Zed", "P")]


def test_a_seed_samples_the_same_sub_schemas_every_time(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", [SPERT_ROW] * 40)
    once, again = (read(path, sub_schema_seed=3).records for _ in range(2))
    assert [record_to_dict(r) for r in once] == [record_to_dict(r) for r in again]
    assert {r.entity_types for r in once} == {("Peop",), ("Org",), ("Peop", "Org")}


def test_a_stray_full_stop_goes_where_the_name_stands_without_it_too(tmp_path: Path) -> None:
    row = {
        "tokens": ["Peru", "borders", "Chile", ".", "Chile.", "U.S."],
        "entities": [[0, 1, "L"], [2, 3, "L"], [4, 5, "L"], [5, 6, "L"]],
        "relations": [[0, 1, 4, 5, "near"]],
    }
    result = read(write(tmp_path / "rows.json", [row]))
    names = [text for text, _ in entities(result.records[0])]
    assert names == ["Peru", "Chile", "U.S."]
    assert relations(result.records[0]) == [("Peru", "Chile", "near")]
    assert result.changes["full stop cut off an entity"] == 1


def test_a_types_map_is_pairs_or_a_json_file(tmp_path: Path) -> None:
    assert read_types_map("Peop=person, Other=") == {"Peop": "person", "Other": ""}
    assert read_types_map(str(write(tmp_path / "m.json", {"A": "b"}))) == {"A": "b"}
    with pytest.raises(ValueError, match="--types-map must be like"):
        read_types_map("Peop")
    with pytest.raises(ValueError, match="must be like"):
        read_types_map(str(write(tmp_path / "n.json", ["A"])))
