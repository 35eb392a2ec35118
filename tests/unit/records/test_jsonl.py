"""Loading, writing, splitting, sub-schemas, and the order of prompts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.records.jsonl import (
    load_records,
    record_to_dict,
    sample_subschema,
    write_records,
)
from t2g_ray.types import Record

ROW: dict[str, Any] = {
    "text": "Ann works for Caf\u00e9 Acme.",
    "entity_types": ["person", "company"],
    "relation_types": ["works for"],
    "graph": {
        "entities": [
            {"id": 0, "text": "Ann", "type": "person"},
            {"id": 1, "text": "Caf\u00e9 Acme", "type": "company"},
        ],
        "relations": [{"head": "Ann", "tail": "Caf\u00e9 Acme", "type": "works for"}],
    },
    "source": "made up",
}


def write(path: Path, *lines: object) -> Path:
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines),
        encoding="utf-8",
    )
    return path


def record(text: str) -> Record:
    return Record(text=text, entity_types=("a",), relation_types=(), graph=Graph((), ()))


def test_a_row_becomes_a_record_and_keeps_its_other_keys(tmp_path: Path) -> None:
    (loaded,) = load_records(write(tmp_path / "a.jsonl", "", ROW, "  "))
    assert loaded.text == ROW["text"]
    assert loaded.entity_types == ("person", "company")
    assert loaded.graph.relations == (Relation("Ann", "Caf\u00e9 Acme", "works for"),)
    assert loaded.extra == {"source": "made up"}


def test_written_records_read_back_equal(tmp_path: Path) -> None:
    records = load_records(write(tmp_path / "a.jsonl", ROW, ROW | {"text": "x\u2028y"}))
    write_records(tmp_path / "new" / "b.jsonl", records)
    assert load_records(tmp_path / "new" / "b.jsonl") == records
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.jsonl"]
    assert record_to_dict(records[0]) == ROW


def test_missing_ids_get_the_next_free_number_and_item_keys_beyond_ours_are_dropped(
    tmp_path: Path,
) -> None:
    entities = [
        {"text": "Ann", "type": "person", "start": 0},
        {"id": 0, "text": "Acme", "type": "company"},
        {"id": None, "text": "Bob", "type": "person"},
    ]
    row = ROW | {"graph": {"entities": entities, "relations": []}}
    (loaded,) = load_records(write(tmp_path / "a.jsonl", row))
    assert [entity.id for entity in loaded.graph.entities] == [1, 0, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "must be JSON in UTF-8"),
        ("[" * 100_000, "must be JSON in UTF-8"),
        ("[1]", "a record must be an object, found list"),
        ({"text": "a"}, r"found no \['entity_types', 'relation_types', 'graph'\]"),
        (ROW | {"text": " "}, "text must be a string that is not blank, found ' '"),
        (ROW | {"text": "\ud800"}, "text must be valid Unicode"),
        (ROW | {"entity_types": "person"}, "entity_types must be a list of strings"),
        (ROW | {"relation_types": [1]}, r"relation_types\[0\] must be a string"),
        (ROW | {"graph": {"entities": []}}, "graph must be an object with exactly the keys"),
        (ROW | {"graph": {"entities": [1], "relations": []}}, r"entities\[0\] must be an object"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(line: object, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROW, "", line)
    with pytest.raises(ValueError, match=rf"a\.jsonl:3: .*{message}"):
        load_records(path)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n\xff\n")
    with pytest.raises(ValueError, match=r"a\.jsonl:2: "):
        load_records(path)


def test_a_file_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl: must hold at least one record, found none"):
        load_records(write(tmp_path / "a.jsonl", "", " "))


def test_a_subschema_keeps_only_gold_of_the_types_it_asks_for() -> None:
    full = Record(
        text="Ann of Acme in Rome",
        entity_types=("person", "company", "city"),
        relation_types=("works for", "based in"),
        graph=Graph(
            (Entity(0, "Ann", "person"), Entity(1, "Acme", "company"), Entity(2, "Rome", "city")),
            (Relation("Ann", "Acme", "works for"), Relation("Acme", "Rome", "based in")),
        ),
        extra={"source": "made up"},
    )
    rng = np.random.default_rng(0)
    schemas = set()
    for _ in range(200):
        sub = sample_subschema(full, rng)
        schemas.add((sub.entity_types, sub.relation_types))
        assert sub.entity_types == tuple(t for t in full.entity_types if t in sub.entity_types)
        kept = tuple(e for e in full.graph.entities if e.type in sub.entity_types)
        assert sub.graph.entities == kept
        texts = {entity.text for entity in kept}
        assert sub.graph.relations == tuple(
            r
            for r in full.graph.relations
            if r.type in sub.relation_types and {r.head, r.tail} <= texts
        )
        assert (sub.text, sub.extra) == (full.text, full.extra)
    assert len(schemas) == 7 * 3  # every non-empty set of types comes up


def test_a_subschema_gives_no_relation_of_one_entity_to_another_of_its_text() -> None:
    full = Record(
        text="Ann met Ann in Rome",
        entity_types=("person", "robot", "city"),
        relation_types=("lives in", "met"),
        graph=Graph(
            (Entity(0, "Ann", "person"), Entity(1, "Ann", "robot"), Entity(2, "Rome", "city")),
            (Relation("Ann", "Rome", "lives in"),),
        ),
    )
    rng = np.random.default_rng(0)
    schemas = set()
    for _ in range(200):
        sub = sample_subschema(full, rng)
        schemas.add(sub.entity_types)
        if sub.graph.relations:
            assert sub.entity_types == full.entity_types
    assert ("person", "city") in schemas  # where "lives in" is not asked for
