"""JSONL lines <-> records, and the order in which records become prompts.

Invariants: a line is a whole record or an error that names file and line; training and held-out
records never share a text; every record is a prompt exactly once an epoch, at a place that
depends on the seed and the position alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from t2g_ray.graph import Graph
from t2g_ray.graph.graph import ENTITY_KEYS, GRAPH_KEYS, RELATION_KEYS
from t2g_ray.records.outputs import write_lines
from t2g_ray.records.values import read_rows
from t2g_ray.types import Record

RECORD_KEYS = ("text", "entity_types", "relation_types", "graph")
THINKING_KEY = "thinking"
"""Key of a record that holds the reasoning to learn where `prompt.thinking` is on."""


def load_records(path: str | Path) -> list[Record]:
    """Read records from JSON in any form (JSONL, an array, packed or not, see `values`).

    Keys beyond the four of a record stay in `extra`; those inside entities and relations are
    dropped. Entities without an id get the next free one. Raises ValueError with file, line,
    what must hold and what was found; also for a file without records.
    """
    path = Path(path)
    records = []
    for row in read_rows(path):
        try:
            records.append(record_from_dict(row.value))
        except ValueError as error:
            raise ValueError(f"{row.place}: {error}") from None
    if not records:
        raise ValueError(f"{path}: must hold at least one record, found none")
    return records


def record_from_dict(value: object) -> Record:
    """A record from plain data. Raises ValueError (GraphError inside the graph)."""
    if not isinstance(value, dict):
        raise ValueError(f"a record must be an object, found {type(value).__name__}")
    if missing := [key for key in RECORD_KEYS if key not in value]:
        raise ValueError(f"a record must have the keys {RECORD_KEYS}, found no {missing}")
    return Record(
        text=_text(value["text"], "text"),
        entity_types=_names(value["entity_types"], "entity_types"),
        relation_types=_names(value["relation_types"], "relation_types"),
        graph=Graph.from_dict(_plain_graph(value["graph"])),
        extra={key: item for key, item in value.items() if key not in RECORD_KEYS},
    )


def record_to_dict(record: Record) -> dict[str, Any]:
    """Plain data of a record, the keys of `extra` last."""
    return {
        "text": record.text,
        "entity_types": list(record.entity_types),
        "relation_types": list(record.relation_types),
        "graph": record.graph.to_dict(),
        **{key: item for key, item in record.extra.items() if key not in RECORD_KEYS},
    }


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write records as JSONL. The file appears whole or not at all."""
    lines = (json.dumps(record_to_dict(record), ensure_ascii=False) for record in records)
    write_lines(Path(path), lines)


def sample_subschema(
    record: Record,
    rng: np.random.Generator,
    *,
    min_entity_types: int = 1,
    min_relation_types: int = 1,
) -> Record:
    """Drop some types and their gold, so that what is asked for changes from record to record.

    Between the minimum and all types are kept, in their order. A relation goes with its type, or
    with the entities of either end. Where an end is the text of entities of several types, these
    types are kept together: of which of them the relation is, its text does not say.
    """
    entity_types = _some(record.entity_types, min_entity_types, rng)
    relation_types = _some(record.relation_types, min_relation_types, rng)
    entity_types = _with_shared(record, entity_types, relation_types)
    entities = tuple(e for e in record.graph.entities if e.type in entity_types)
    texts = {entity.text for entity in entities}
    relations = tuple(
        r
        for r in record.graph.relations
        if r.type in relation_types and r.head in texts and r.tail in texts
    )
    return replace(
        record,
        entity_types=entity_types,
        relation_types=relation_types,
        graph=Graph(entities, relations),
    )


def _with_shared(
    record: Record, entity_types: tuple[str, ...], relation_types: tuple[str, ...]
) -> tuple[str, ...]:
    """The entity types, with those of other entities that are an end of a kept relation by text."""
    ends = {
        end for r in record.graph.relations if r.type in relation_types for end in (r.head, r.tail)
    }
    types: dict[str, set[str]] = {}
    for entity in record.graph.entities:
        if entity.text in ends:
            types.setdefault(entity.text, set()).add(entity.type)
    kept, shared = set(entity_types), [group for group in types.values() if len(group) > 1]
    while grown := [group for group in shared if group & kept and not group <= kept]:
        kept.update(*grown)
    return tuple(name for name in record.entity_types if name in kept)


def _some(names: tuple[str, ...], minimum: int, rng: np.random.Generator) -> tuple[str, ...]:
    num_kept = int(rng.integers(min(minimum, len(names)), len(names) + 1))
    kept = rng.permutation(len(names))[:num_kept]
    return tuple(names[index] for index in sorted(kept))


def _plain_graph(graph: object) -> object:
    """The graph with only our keys and every id; what is not of that shape is left as it is, for
    Graph.from_dict to name."""
    if not isinstance(graph, dict):
        return graph
    plain = {key: graph[key] for key in GRAPH_KEYS if key in graph}
    for name, keys in (("entities", ENTITY_KEYS), ("relations", RELATION_KEYS)):
        if isinstance(plain.get(name), list):
            plain[name] = [_only(item, keys) for item in plain[name]]
    entities = plain.get("entities")
    if isinstance(entities, list):
        items = [item for item in entities if isinstance(item, dict)]
        used = {item["id"] for item in items if isinstance(item.get("id"), int)}
        free_ids = (number for number in count() if number not in used)
        for item in items:
            if item.get("id") is None:
                item["id"] = next(free_ids)
    return plain


def _only(item: object, keys: tuple[str, ...]) -> object:
    return {key: item[key] for key in keys if key in item} if isinstance(item, dict) else item


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{place} must be a string that is not blank, found {ascii(value)[:80]}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place} must be valid Unicode, found a lone surrogate") from None
    return value


def _names(value: object, place: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{place} must be a list of strings, found {ascii(value)[:80]}")
    return tuple(_text(name, f"{place}[{index}]") for index, name in enumerate(value))
