"""What is wrong with a source is named and counted, and what is changed in a row is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.data.importers.finish import ImportOptions
from t2g_ray.data.importers.registry import layout_of
from t2g_ray.data.importers.run import (
    ImportResult,
    import_source,
    read_types_map,
    write_rejections,
)
from t2g_ray.data.importers.source import Source
from t2g_ray.records.jsonl import load_records, record_to_dict, write_records
from t2g_ray.types import Record

TOKENS = ["Ada", "Stone", "joined", "Orbit", "Mills", "."]
SPERT_ROW: dict[str, Any] = {
    "tokens": TOKENS,
    "entities": [{"type": "Peop", "start": 0, "end": 2}, {"type": "Org", "start": 3, "end": 5}],
    "relations": [{"type": "Work_For", "head": 0, "tail": 1}],
}
BLANK = {"type": " ", "start": 3, "end": 5}
SCIER_ROW = {
    "doc_id": "7",
    "sentence": "Ada Stone joined Orbit Mills .",
    "ner": [["Ada Stone", "Peop"], ["Orbit Mills", "Org"]],
    "rel": [["Ada Stone", "Work_For", "Orbit Mills"]],
}
COLUMNS = """#doc 12
0\tAda\tB-Peop\t['N']\t[0]
1\tStone\tI-Peop\t['Work_For']\t[4]
2\tjoined\tO\t['N']\t[2]
3\tOrbit\tB-Org\t['N']\t[3]
4\tMills\tI-Org\t['N']\t[4]
5\t.\tO\t['N']\t[5]
"""


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def read(path: Path, layout: str = "auto", **options: Any) -> ImportResult:
    return import_source(Source.of(str(path)), ImportOptions(**options), layout=layout)


def entities(record: Record) -> list[tuple[str, str]]:
    return [(entity.text, entity.type) for entity in record.graph.entities]


def relations(record: Record) -> list[tuple[str, str, str]]:
    return [(r.head, r.tail, r.type) for r in record.graph.relations]


def test_an_ambiguous_layout_is_an_error_that_names_the_choices(tmp_path: Path) -> None:
    empty = {"tokens": ["Rain", "."], "entities": [], "relations": []}
    path = write(tmp_path / "rows.json", [empty])
    with pytest.raises(ValueError, match=r"spert and span_json fit; choose one with --layout"):
        read(path)
    assert read(path, layout="spert").counts["kept"] == 1


def test_an_unknown_layout_is_an_error_that_shows_the_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", lines({"b": 1, "a": 2}))
    with pytest.raises(ValueError, match=r"found rows with the keys \['a', 'b'\]"):
        read(path)
    with pytest.raises(ValueError, match="--layout must be auto or one of"):
        layout_of(Source.of(str(path)), "spurt")


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"tokens": 5}, "wrong_shape", "tokens must be a list, found 5"),
        ({"tokens": ["a", 1]}, "wrong_shape", "tokens[1] must be a string, found 1"),
        ({"tokens": []}, "span_out_of_range", "inside the 0 tokens"),
        ({"entities": [{"type": "A", "start": 0}]}, "missing_field", "the key 'end'"),
        ({"entities": [{"type": "A", "start": 5, "end": 9}]}, "span_out_of_range", "5 to 9"),
        ({"entities": [{"type": "A", "start": True, "end": 1}]}, "wrong_shape", "an integer"),
        ({"entities": [SPERT_ROW["entities"][0], BLANK]}, "blank_entity", "not be blank"),
        ({"entities": []}, "index_out_of_range", "head of a relation"),
        ({"tokens": ["\ud800"] * 6}, "not_writable", "valid Unicode"),
        ({"tokens": [" "] * 6, "entities": [], "relations": []}, "empty_text", "blank"),
    ],
)
def test_a_wrong_row_is_rejected_with_place_reason_and_what_was_expected(
    change: dict[str, Any], reason: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", lines(SPERT_ROW, SPERT_ROW | change))
    result = read(path, layout="spert")
    assert result.counts["kept"] == 1
    (rejection,) = result.rejections
    assert rejection.place == f"{path}:2"
    assert rejection.reason == reason
    assert words in rejection.message


def test_lines_that_are_not_json_are_counted_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(SPERT_ROW).encode() + b"{\n\n\xff\n[" + b"[" * 100_000 + b"\n")
    result = read(path, layout="spert")
    assert result.counts == {
        "rows": 4,
        "kept": 1,
        "rejected": 3,
        "entities": 2,
        "relations": 1,
    }
    assert result.reasons == {"not_json": 3}
    write_rejections(tmp_path / "out" / "rejected.jsonl", result.rejections)
    written = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(written[0])["place"] == f"{path}:2"


def test_a_broken_json_array_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", '[{"tokens": []},')
    with pytest.raises(ValueError, match=r"rows\.json: must be a JSON array in UTF-8"):
        read(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (COLUMNS.replace("[4]\n2", "[3]\n2"), "unknown_relation_end"),
        (COLUMNS.replace("[4]\n2", "[4, 4]\n2"), "wrong_columns"),
        (COLUMNS.replace("['N']\t[0]", "print()\t[0]"), "wrong_columns"),
        (COLUMNS.replace("\tB-Peop", ""), "wrong_columns"),
        (COLUMNS.replace("B-Org", "X-Org"), "unknown_tag"),
    ],
)
def test_a_faulty_column_rejects_its_sentence_only(
    content: str, reason: str, tmp_path: Path
) -> None:
    result = read(write(tmp_path / "dev.txt", content + COLUMNS))
    assert result.counts["kept"] == 1
    assert result.reasons == {reason: 1}
    assert result.rejections[0].place == f"{tmp_path / 'dev.txt'}:1"


def test_a_text_file_that_is_not_utf8_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "dev.txt"
    path.write_bytes(COLUMNS.encode() + b"\xe9\n")
    with pytest.raises(ValueError, match=r"dev\.txt:8: a line must be UTF-8"):
        read(path)


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


def test_imported_records_load_again(tmp_path: Path) -> None:
    records = read(write(tmp_path / "rows.json", [SPERT_ROW])).records
    write_records(tmp_path / "out.jsonl", records)
    assert load_records(tmp_path / "out.jsonl") == records


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


def test_a_schema_file_of_no_known_form_shows_the_forms(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", [SPERT_ROW])
    schema = write(tmp_path / "s.json", {"a": 1})
    with pytest.raises(ValueError, match=r"s\.json: must be .*SpERT.*Text2KGBench.*DocRED"):
        import_source(Source.of(str(path)), schema_file=schema)
