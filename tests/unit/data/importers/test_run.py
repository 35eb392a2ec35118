"""What is wrong with a source is named and counted, and what is changed in a row is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.data.importers.registry import layout_of
from t2g_ray.data.importers.run import (
    read_types_map,
    write_rejections,
)
from t2g_ray.data.importers.source import Source
from t2g_ray.records.jsonl import load_records, write_records
from tests.unit.data.importers.parts import TOKENS, lines, read, write

SPERT_ROW: dict[str, Any] = {
    "tokens": TOKENS,
    "entities": [{"type": "Peop", "start": 0, "end": 2}, {"type": "Org", "start": 3, "end": 5}],
    "relations": [{"type": "Work_For", "head": 0, "tail": 1}],
}
BLANK = {"type": " ", "start": 3, "end": 5}
COLUMNS = """#doc 12
0\tAda\tB-Peop\t['N']\t[0]
1\tStone\tI-Peop\t['Work_For']\t[4]
2\tjoined\tO\t['N']\t[2]
3\tOrbit\tB-Org\t['N']\t[3]
4\tMills\tI-Org\t['N']\t[4]
5\t.\tO\t['N']\t[5]
"""


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
    with pytest.raises(ValueError, match=r"rows\.json: must be a JSON array: must be JSON"):
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
    with pytest.raises(ValueError, match=r"dev\.txt:8: text must be UTF-8"):
        read(path)


def test_imported_records_load_again(tmp_path: Path) -> None:
    records = read(write(tmp_path / "rows.json", [SPERT_ROW])).records
    write_records(tmp_path / "out.jsonl", records)
    assert load_records(tmp_path / "out.jsonl") == records


@pytest.mark.parametrize("text", ["A=b,A=c", "A=b, A=", '{"A": "b", "A": "c"}', '{"A": NaN}'])
def test_a_type_is_renamed_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"once|twice|not JSON"):
        read_types_map(str(path) if text.startswith("{") else text)


def test_a_map_of_types_is_read_like_other_files(tmp_path: Path) -> None:
    path = tmp_path / "names.JSON"
    path.write_text('{"A": "Zo\u00eb"}', encoding="utf-16")
    assert read_types_map(str(path)) == {"A": "Zo\u00eb"}
