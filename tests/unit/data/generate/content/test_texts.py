"""Sources of texts, and what becomes of rows that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from t2g_ray.data.generate.config import SourceConfig
from t2g_ray.data.generate.content.texts import SourceText, ask_for_more, read_texts
from t2g_ray.graph import Graph
from t2g_ray.records.corpus import ENTITY_TYPES, generate_records
from t2g_ray.records.jsonl import record_to_dict
from t2g_ray.types import Record

TYPES: dict[str, Any] = {"entity_types": ["person"], "relation_types": ["knows"]}


def read(name: object, **tree: Any) -> tuple[list[SourceText], list[Any]]:
    return read_texts(SourceConfig(name=str(name), **tree), seed=0)


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_line_or_a_paragraph_of_a_text_file_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\nAnn works.\nBob \n\n \nCid.\n")
    texts, _ = read(path, **TYPES)
    assert [(t.place, t.record.text) for t in texts] == [
        (f"{path}:2", "Ann works."),
        (f"{path}:3", "Bob"),
        (f"{path}:6", "Cid."),
    ]
    assert (texts[0].record.entity_types, texts[0].record.relation_types) == (
        ("person",),
        ("knows",),
    )
    paragraphs, _ = read(path, unit="paragraph", **TYPES)
    assert [(t.place, t.record.text) for t in paragraphs] == [
        (f"{path}:2", "Ann works.\nBob"),
        (f"{path}:6", "Cid."),
    ]


def test_records_keep_their_types_and_further_keys_but_not_their_graph(tmp_path: Path) -> None:
    (record,) = generate_records("train", 1, seed=0)
    row = record_to_dict(record) | {"id": 7}
    ((text,), _) = read(write_lines(tmp_path / "records.jsonl", row))
    assert text.record == Record(
        text=record.text,
        entity_types=record.entity_types,
        relation_types=record.relation_types,
        graph=Graph((), ()),
        extra={"id": 7},
    )
    ((other,), _) = read(tmp_path / "records.jsonl", **TYPES)
    assert other.record.entity_types == ("person",)


def test_rows_that_are_no_texts_are_rejected_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_lines(path, {"body": "Ann."}, {"text": "Bob."}, ["Cid."], {"body": " "}, {"body": 3})
    path.write_text(path.read_text() + "{broken\n")
    texts, rejections = read(path, text_field="body", **TYPES)
    assert [text.record.text for text in texts] == ["Ann."]
    assert [(r.place.rpartition(":")[2], r.reason) for r in rejections] == [
        ("2", "text_missing"),
        ("3", "row_is_no_object"),
        ("4", "text_missing"),
        ("5", "text_missing"),
        ("6", "not_json"),
    ]


def test_rows_without_types_are_rejected_unless_the_source_names_some(tmp_path: Path) -> None:
    row = {"text": "Ann.", "entity_types": ["person", "person"], "relation_types": []}
    bad = {"text": "Bob.", "entity_types": "person"}
    path = write_lines(tmp_path / "rows.jsonl", row, {"text": "Cid."}, bad)
    texts, rejections = read(path)
    assert [text.record.entity_types for text in texts] == [("person",)]
    assert [r.reason for r in rejections] == ["types_missing", "text_missing"]
    assert "source.entity_types" in rejections[0].message
    assert "entity_types must be a list" in rejections[1].message


def test_data_sets_saved_by_datasets_are_read(tmp_path: Path) -> None:
    rows = {"text": ["Ann.", "Bob."], "entity_types": [["person"], ["person"]]}
    saved = datasets.Dataset.from_dict(rows)
    saved.save_to_disk(tmp_path / "saved")
    saved.to_parquet(tmp_path / "rows.parquet")
    for name in ("saved", "rows.parquet"):
        texts, rejections = read(tmp_path / name)
        assert [text.record.text for text in texts] == ["Ann.", "Bob."]
        assert rejections == []


def test_the_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"text": "Ann."}, {"x": 1}, {"text": "Bob."})
    texts, rejections = read(path, limit=2, **TYPES)
    assert (len(texts), len(rejections)) == (1, 1)
    assert len(read("embedded", limit=3)[0]) == 3


@pytest.mark.parametrize(
    ("name", "content", "tree", "message"),
    [
        ("empty.txt", "\n \n", TYPES, "must hold at least one text, found none"),
        ("empty.jsonl", "", TYPES, "must hold at least one text, found none"),
        ("texts.txt", "Ann.\n", {}, "source.entity_types must name at least one type"),
        ("rows.csv", "text\nAnn.\n", TYPES, "a file of texts must end in"),
        ("rows.jsonl", '{"body": "Ann."}\n', TYPES, "the key 'text' must hold a text, found None"),
        ("bad.txt", b"Ann.\n\xff\n", TYPES, "bad.txt:2: text must be UTF-8"),
    ],
)
def test_a_source_that_gives_no_text_says_what_to_do(
    tmp_path: Path, name: str, content: str | bytes, tree: dict[str, Any], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read(path, **tree)


def test_a_source_that_is_not_there_and_types_that_the_world_lacks_are_errors() -> None:
    with pytest.raises(ValueError, match="found nothing at"):
        read("gone.jsonl", **TYPES)
    with pytest.raises(ValueError, match=r"found \['persn'\]; it has person, company"):
        read("embedded", entity_types=["persn"])


def test_types_of_other_texts_are_asked_for_too_and_never_twice() -> None:
    def text(*entity_types: str) -> SourceText:
        record = Record(
            text="Ann.", entity_types=entity_types, relation_types=(), graph=Graph((), ())
        )
        return SourceText(place="here", record=record)

    texts = [text("person"), text("person", "city"), text("drug")]
    asked = ask_for_more(texts, 1, seed=0)
    assert [len(t.record.entity_types) for t in asked] == [2, 3, 2]
    assert all(set(b.record.entity_types) <= set(a.record.entity_types)
               for a, b in zip(asked, texts, strict=True))  # fmt: skip
    every = ask_for_more(texts, 9, seed=0)
    assert {frozenset(t.record.entity_types) for t in every} == {
        frozenset(("person", "city", "drug"))
    }
    assert asked == ask_for_more(texts, 1, seed=0)
    more, _ = read("embedded", limit=5, negative_types=10)
    assert all(set(t.record.entity_types) == set(ENTITY_TYPES) for t in more)
