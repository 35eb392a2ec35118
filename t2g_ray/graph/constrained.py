"""Wanted types -> the JSON Schema that an answer must follow; a cut answer -> a graph.

Invariant: an answer that was held to the schema and closed parses to a graph, wherever it was cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t2g_ray.graph.graph import Graph
from t2g_ray.graph.parsing import Parsed, parse_completion


def graph_json_schema(
    entity_types: Sequence[str],
    relation_types: Sequence[str],
    *,
    max_entities: int = 64,
    max_relations: int = 128,
    max_text_chars: int | None = None,
) -> dict[str, Any]:
    """JSON Schema of a graph with only the wanted types, for constrained decoding.

    Without wanted types the matching array must be empty. Texts are not bounded unless asked:
    xgrammar (0.2) lets a bounded string hold raw control characters and no escapes, and a pattern
    that says otherwise does not compile as it reads. An answer cut by its length limit is closed
    by `close_graph`.
    """
    text: dict[str, Any] = {"type": "string"}
    if max_text_chars is not None:
        text |= {"minLength": 1, "maxLength": max_text_chars}
    id_ = {"type": "integer", "minimum": 0, "maximum": max_entities - 1}
    entity = {"id": id_, "text": text, "type": _type_schema(entity_types)}
    relation = {"head": text, "tail": text, "type": _type_schema(relation_types)}
    return _object_schema(
        {
            "entities": _array_schema(entity, max_entities if entity_types else 0),
            "relations": _array_schema(relation, max_relations if relation_types else 0),
        }
    )


def _type_schema(types: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(types)}


def _array_schema(properties: dict[str, Any], max_items: int) -> dict[str, Any]:
    if max_items == 0:
        return {"type": "array", "maxItems": 0}
    return {"type": "array", "items": _object_schema(properties), "maxItems": max_items}


def _object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def close_graph(text: str) -> str:
    """The start of a canonical graph, cut anywhere -> a graph of its complete items.

    A grammar makes each token fit the form, but cannot make an answer end in time. A complete graph
    is returned unchanged; a text that does not start a graph gives the empty one.
    """
    if isinstance(parse_completion(text), Parsed):
        return text
    end = len(text)
    while (end := text.rfind("}", 0, end)) >= 0:
        for closing in ("]}", '],"relations":[]}'):
            closed = text[: end + 1] + closing
            if isinstance(parse_completion(closed), Parsed):
                return closed
    return Graph((), ()).to_json()
