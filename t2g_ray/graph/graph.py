"""The graph a model writes: plain JSON data <-> Entity, Relation and Graph.

Invariant: one graph has one canonical JSON text (`Graph.to_json`), and reading that text back
gives an equal graph. Types and relation ends are not checked against anything here: a graph
can be well formed and wrong, and `rewards` tells the two apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

ENTITY_KEYS = ("id", "text", "type")
RELATION_KEYS = ("head", "tail", "type")
GRAPH_KEYS = ("entities", "relations")

# One encoder for all graphs: json.dumps builds a new one for each call with these settings.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


class GraphError(ValueError):
    """The data is not a graph. The message says what must hold and what was found."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A mention. Example: Entity(id=0, text="Acme", type="company")."""

    id: int
    text: str
    type: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A directed relation; `head` and `tail` are entity texts.

    Example: Relation(head="Ann", tail="Acme", type="works for").
    """

    head: str
    tail: str
    type: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Entities and relations in the order they were written."""

    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Plain data with the keys in canonical order."""
        return {
            "entities": [{"id": e.id, "text": e.text, "type": e.type} for e in self.entities],
            "relations": [{"head": r.head, "tail": r.tail, "type": r.type} for r in self.relations],
        }

    def to_json(self) -> str:
        """Canonical JSON: no spaces, no escapes beyond those JSON demands."""
        return _ENCODER.encode(self.to_dict())

    @classmethod
    def from_dict(cls, obj: object) -> Graph:
        """Read plain data: exactly our keys, in any order, integer ids, strings without lone
        surrogates. Raises GraphError with the place of the first fault.
        """
        entities, relations = _values(obj, GRAPH_KEYS, "graph", 0)
        entity_items = _list(entities, "graph.entities")
        relation_items = _list(relations, "graph.relations")
        return cls(
            tuple(_entity(item, index) for index, item in enumerate(entity_items)),
            tuple(_relation(item, index) for index, item in enumerate(relation_items)),
        )


def _entity(item: object, index: int) -> Entity:
    id_, text, type_ = _values(item, ENTITY_KEYS, "entities", index)
    if type(id_) is not int:  # bool is an int to isinstance
        raise GraphError(f"entities[{index}].id must be an integer, found {_shown(id_)}")
    return Entity(
        id_,
        _string(text, "entities", index, "text"),
        _string(type_, "entities", index, "type"),
    )


def _relation(item: object, index: int) -> Relation:
    head, tail, type_ = _values(item, RELATION_KEYS, "relations", index)
    return Relation(
        _string(head, "relations", index, "head"),
        _string(tail, "relations", index, "tail"),
        _string(type_, "relations", index, "type"),
    )


def _values(obj: object, keys: tuple[str, ...], where: str, index: int) -> list[object]:
    """The values of `keys` in their order; `obj` must have these keys and no others."""
    if isinstance(obj, dict) and len(obj) == len(keys):
        try:
            return [obj[key] for key in keys]
        except KeyError:
            pass
    found = f"the keys {_shown(list(obj))}" if isinstance(obj, dict) else _shown(obj)
    place = where if where == "graph" else f"{where}[{index}]"
    raise GraphError(f"{place} must be an object with exactly the keys {keys}, found {found}")


def _list(value: object, place: str) -> list[object]:
    if isinstance(value, list):
        return value
    raise GraphError(f"{place} must be a list, found {_shown(value)}")


def _string(value: object, where: str, index: int, key: str) -> str:
    if not isinstance(value, str):
        raise GraphError(f"{where}[{index}].{key} must be a string, found {_shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise GraphError(
                f"{where}[{index}].{key} must be valid Unicode, found a lone surrogate "
                f"at position {error.start}"
            ) from None
    return value


def _shown(value: object) -> str:
    """A short ASCII picture of any value, however large or deep, for error messages."""
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, list) and not all(isinstance(item, str) for item in value[:8]):
        return f"a list of {len(value)} items"
    if isinstance(value, list):
        value = [item[:40] for item in value[:8]]
    return ascii(value[:40] if isinstance(value, str) else value)[:200]
