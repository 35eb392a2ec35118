"""Documents of vertices -> entities that stay apart, and labels that are there."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.importers.parts import entities, read, relations, write

SENTS = [["Ada", "Fox", "met", "Ada", "Fox", "."], ["Ada", "paid", "Mrs", "Fox", "."]]


def mention(sentence: int, start: int, end: int) -> dict[str, Any]:
    return {"sent_id": sentence, "pos": [start, end], "type": "P", "name": "?"}


def document(*vertices: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    labels = [{"h": 0, "t": 1, "r": "met"}]
    return {"sents": SENTS, "vertexSet": list(vertices), "labels": labels} | fields


def test_vertices_of_one_longest_mention_are_told_apart_by_another(tmp_path: Path) -> None:
    row = document([mention(0, 0, 2), mention(1, 0, 1)], [mention(0, 3, 5), mention(1, 2, 4)])
    result = read(write(tmp_path / "a.json", [row]))
    assert entities(result.records[0]) == [("Ada", "P"), ("Mrs Fox", "P")]
    assert relations(result.records[0]) == [("Ada", "Mrs Fox", "met")]


def test_vertices_that_have_one_text_alone_are_counted(tmp_path: Path) -> None:
    result = read(write(tmp_path / "a.json", [document([mention(0, 0, 2)], [mention(0, 3, 5)])]))
    assert (entities(result.records[0]), relations(result.records[0])) == ([("Ada Fox", "P")], [])
    assert result.changes["different entities of one text and type merged"] == 1
    assert result.changes["relation between two entities of one text left out"] == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"vertexSet": [[mention(0, 5, 7)]]}, "span_out_of_range"),
        ({"vertexSet": [[mention(0, 6, 7)]]}, "span_out_of_range"),
        ({"vertexSet": [[mention(1, -1, 1)]]}, "span_out_of_range"),
        ({"vertexSet": [[mention(0, 2, 2)]]}, "span_out_of_range"),
        ({"vertexSet": [[mention(2, 0, 1)]]}, "index_out_of_range"),
        ({"vertexSet": [[]]}, "wrong_shape"),
        ({"labels": None}, "wrong_shape"),
        ({"labels": [{"h": 0, "t": 2, "r": "met"}]}, "index_out_of_range"),
    ],
)
def test_a_position_or_label_that_is_not_there_rejects_the_document(
    fields: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    row = document([mention(0, 0, 2)], [mention(1, 2, 4)]) | fields
    assert read(write(tmp_path / "a.json", [row])).reasons == {reason: 1}


def test_no_labels_are_not_an_empty_list_of_labels(tmp_path: Path) -> None:
    row = document([mention(0, 0, 2)], [mention(1, 2, 4)])
    del row["labels"]
    assert read(write(tmp_path / "a.json", [row])).reasons == {"no_labels": 1}
    assert read(write(tmp_path / "b.json", [row | {"labels": []}])).counts["kept"] == 1
