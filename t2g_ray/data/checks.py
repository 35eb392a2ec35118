"""A record -> what is wrong with it, by name: what `inspect` counts and `select` rejects.

Invariant: a record without faults has unique entities and relations, every relation end is an
entity, every entity occurs in the text, and every type is one that the record asks for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from t2g_ray.types import Record

UNKNOWN_END = "relation_end_is_no_entity"
NOT_IN_TEXT = "entity_not_in_text"
ENTITY_TYPE = "entity_type_outside_schema"
RELATION_TYPE = "relation_type_outside_schema"
REPEATED_ENTITY = "repeated_entity"
REPEATED_RELATION = "repeated_relation"
FAULTS = (
    UNKNOWN_END,
    NOT_IN_TEXT,
    ENTITY_TYPE,
    RELATION_TYPE,
    REPEATED_ENTITY,
    REPEATED_RELATION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFault:
    """Example: RecordFault(kind="entity_not_in_text", found="Acme")."""

    kind: str
    found: str


def faults_of(record: Record) -> list[RecordFault]:
    """Every fault, one for each entity or relation (and end) that has it."""
    return [RecordFault(kind=kind, found=found) for kind, found in _faults(record)]


def _faults(record: Record) -> Iterator[tuple[str, str]]:
    entities, relations = record.graph.entities, record.graph.relations
    texts = {entity.text for entity in entities}
    for relation in relations:
        for end in (relation.head, relation.tail):
            if end not in texts:
                yield UNKNOWN_END, end
        if relation.type not in record.relation_types:
            yield RELATION_TYPE, relation.type
    for entity in entities:
        if not entity.text.strip() or entity.text not in record.text:
            yield NOT_IN_TEXT, entity.text
        if entity.type not in record.entity_types:
            yield ENTITY_TYPE, entity.type
    for pair in _repeats((entity.text, entity.type) for entity in entities):
        yield REPEATED_ENTITY, ", ".join(pair)
    for triple in _repeats((r.head, r.tail, r.type) for r in relations):
        yield REPEATED_RELATION, ", ".join(triple)


def _repeats(keys: Iterable[Any]) -> Iterator[Any]:
    seen: set[Hashable] = set()
    for key in keys:
        if key in seen:
            yield key
        seen.add(key)
