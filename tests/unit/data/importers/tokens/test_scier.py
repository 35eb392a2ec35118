"""Names of a sentence -> entities, told apart by the types that a row gives."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.importers.parts import entities, lines, read, relations, write

ROW: dict[str, Any] = {
    "sentence": "Ada beats Ada and Bo .",
    "ner": [["Ada", "Method"], ["Ada", "Task"], ["Bo", "Task"]],
    "rel": [["Ada", "beats", "Bo"]],
    "rel_plus": [["Ada:Task", "beats", "Bo:Task"]],
}


@pytest.mark.parametrize(("dropped", "num_relations"), [("Method", 1), ("Task", 0)])
def test_the_types_of_the_ends_say_which_entity_is_meant(
    dropped: str, num_relations: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", lines(ROW))
    assert len(relations(read(path, types_map={dropped: ""}).records[0])) == num_relations


def test_a_relation_whose_end_may_be_dropped_is_counted(tmp_path: Path) -> None:
    row = {key: value for key, value in ROW.items() if key != "rel_plus"}
    result = read(write(tmp_path / "a.jsonl", lines(row)), types_map={"Method": ""})
    assert relations(result.records[0]) == []
    assert result.changes["relation left out, whose end may be an entity of a dropped type"] == 1


def test_a_no_break_space_stays_inside_its_token(tmp_path: Path) -> None:
    row = ROW | {"sentence": "10\u00a0km", "ner": [["10\u00a0km", "L"]], "rel": [], "rel_plus": []}
    (record,) = read(write(tmp_path / "a.jsonl", lines(row))).records
    assert entities(record) == [("10\u00a0km", "L")]


def test_a_name_inside_a_token_is_not_in_the_text(tmp_path: Path) -> None:
    row = ROW | {"sentence": "In 1995 .", "ner": [["5", "N"]], "rel": [], "rel_plus": []}
    assert read(write(tmp_path / "a.jsonl", lines(row))).reasons == {"entity_not_in_text": 1}
