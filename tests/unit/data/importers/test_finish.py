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
