"""Source -> texts with the types wanted of each, and the rows that are no texts.

Invariant: every row of the source becomes one text or one rejection that names its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from t2g_ray.config import EMBEDDED
from t2g_ray.data.generate.config import SourceConfig
from t2g_ray.data.importers.listing import JSON_SUFFIXES, SPLIT_KEY
from t2g_ray.data.importers.row import Rejection, Row
from t2g_ray.data.importers.source import Source, text_lines
from t2g_ray.graph import Graph
from t2g_ray.records.corpus import ENTITY_TYPES, RELATION_ENDS, generate_records
from t2g_ray.records.files import suffix_of
from t2g_ray.records.jsonl import record_from_dict
from t2g_ray.types import Record

TEXT_SUFFIXES = (".txt", ".md")
EMBEDDED_TEXTS = 200
"""How many texts of the embedded world to make where the configuration gives no number."""
NO_GRAPH = Graph((), ())
NOT_A_ROW, NO_TEXT, NO_TYPES = "row_is_no_object", "text_missing", "types_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """A text to be turned into a graph. Its record holds the wanted types and an empty graph."""

    place: str
    record: Record


def read_texts(config: SourceConfig, *, seed: int) -> tuple[list[SourceText], list[Rejection]]:
    """Texts and rejections, each in the order of the source.

    Raises ValueError for a source that cannot be read, for one without rows, and when no row
    becomes a text.
    """
    texts: list[SourceText] = []
    rejections: list[Rejection] = []
    for row in islice(_rows(config, seed), config.limit):
        found = row if isinstance(row, Rejection) else _to_text(row, config)
        if isinstance(found, SourceText):
            texts.append(found)
        else:
            rejections.append(found)
    if not texts and not rejections:
        raise ValueError(f"source.name must hold at least one text, found none in {config.name}")
    if not texts:
        first = rejections[0]
        raise ValueError(
            f"at least one row of {config.name} must be a text, found {len(rejections)} that are "
            f"none; the first is {first.place}: {first.message}"
        )
    return ask_for_more(texts, config.negative_types, seed=seed), rejections


def _rows(config: SourceConfig, seed: int) -> Iterator[Row | Rejection]:
    if config.name == EMBEDDED:
        return _embedded_rows(config, seed)
    source = Source.of(config.name, split=config.split, subset=config.subset)
    path = source.path
    if path is None or path.is_dir() or source.is_dataset or suffix_of(path) in JSON_SUFFIXES:
        return _rows_of_splits(source)
    if suffix_of(path) not in TEXT_SUFFIXES:
        raise ValueError(
            f"a file of texts must end in {', '.join((*JSON_SUFFIXES, '.parquet', *TEXT_SUFFIXES))}"
            f", found {path}; rename or convert it"
        )
    if not config.entity_types:
        raise ValueError(
            "source.entity_types must name at least one type for a text file, found none"
        )
    return _text_rows(path, config)


def _rows_of_splits(source: Source) -> Iterator[Row | Rejection]:
    """Rows of every split, with its name where there are several."""
    for split, part in source.parts():
        for row in part.rows():
            if split is not None and isinstance(row, Row) and isinstance(row.value, dict):
                row = replace(row, value={SPLIT_KEY: split, **row.value})
            yield row


def _embedded_rows(config: SourceConfig, seed: int) -> Iterator[Row]:
    wanted = (config.entity_types, ENTITY_TYPES), (config.relation_types, tuple(RELATION_ENDS))
    for names, known in wanted:
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"the embedded world must know the wanted types, found {unknown}; it has "
                f"{', '.join(known)}"
            )
    records = generate_records("train", config.limit or EMBEDDED_TEXTS, seed=seed)
    for number, record in enumerate(records, start=1):
        types = {
            "entity_types": list(record.entity_types),
            "relation_types": list(record.relation_types),
        }
        yield Row(place=f"{EMBEDDED}:{number}", value={config.text_field: record.text, **types})


def _text_rows(path: Path, config: SourceConfig) -> Iterator[Row]:
    lines = text_lines(path)
    if config.unit == "line":
        groups = ([line] for line in lines if line[1].strip())
    else:
        parts = groupby(lines, key=lambda line: bool(line[1].strip()))
        groups = (list(part) for is_text, part in parts if is_text)
    for group in groups:
        text = "\n".join(line for _, line in group)
        yield Row(place=f"{path}:{group[0][0]}", value={config.text_field: text})


def _to_text(row: Row, config: SourceConfig) -> SourceText | Rejection:
    value = row.value
    if not isinstance(value, dict):
        return _reject(row, NOT_A_ROW, f"a row must be an object, found {type(value).__name__}")
    text = value.get(config.text_field)
    if not isinstance(text, str) or not text.strip():
        message = f"the key {config.text_field!r} must hold a text, found {ascii(text)[:80]}"
        return _reject(row, NO_TEXT, f"{message}; source.text_field names the key")
    entity_types, relation_types = _types(value, config)
    if not entity_types:
        message = "a row must name entity_types, found none; name them in source.entity_types"
        return _reject(row, NO_TYPES, message)
    own = (config.text_field, "text", "graph", "entity_types", "relation_types")
    plain: dict[str, Any] = {
        "text": text.strip(),
        "entity_types": entity_types,
        "relation_types": relation_types,
        "graph": NO_GRAPH.to_dict(),
        **{key: item for key, item in value.items() if key not in own},
    }
    try:
        return SourceText(place=row.place, record=record_from_dict(plain))
    except ValueError as error:
        return _reject(row, NO_TEXT, str(error))


def _types(value: dict[str, Any], config: SourceConfig) -> tuple[Any, Any]:
    """What the configuration wants, else what the row says; each type once."""
    if config.entity_types:
        return config.entity_types, config.relation_types
    found = (value.get("entity_types") or [], value.get("relation_types") or [])
    entities, relations = (
        list(dict.fromkeys(names)) if _are_texts(names) else names for names in found
    )
    return entities, relations


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _reject(row: Row, reason: str, message: str) -> Rejection:
    return Rejection(place=row.place, reason=reason, message=message, value=row.value)


def ask_for_more(texts: Sequence[SourceText], num_types: int, *, seed: int) -> list[SourceText]:
    """Add up to `num_types` types of other texts to what each is asked for, in random places.

    The teacher is asked for them as well, so a type that stays without gold is truly negative.
    """
    if num_types == 0:
        return list(texts)
    every = [
        *(("entity", name) for name in _union([t.record.entity_types for t in texts])),
        *(("relation", name) for name in _union([t.record.relation_types for t in texts])),
    ]
    asked: list[SourceText] = []
    for number, text in enumerate(texts):
        rng = np.random.default_rng((seed, number))
        record = text.record
        wanted = {"entity": list(record.entity_types), "relation": list(record.relation_types)}
        others = [(kind, name) for kind, name in every if name not in wanted[kind]]
        for index in rng.permutation(len(others))[:num_types].tolist():
            kind, name = others[index]
            wanted[kind].insert(int(rng.integers(len(wanted[kind]) + 1)), name)
        record = replace(
            record,
            entity_types=tuple(wanted["entity"]),
            relation_types=tuple(wanted["relation"]),
        )
        asked.append(replace(text, record=record))
    return asked


def _union(names: Sequence[tuple[str, ...]]) -> list[str]:
    return sorted({name for group in names for name in group})
