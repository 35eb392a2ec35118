"""Wanted types -> the grammar, or JSON Schema, that an answer must follow; a cut answer -> a graph.

Invariant: an answer that was held to the grammar parses to a graph once it has ended, and so does
one that was cut anywhere and closed. Nothing but the length limit bounds how much it holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from t2g_ray.graph.graph import Graph
from t2g_ray.graph.parsing import Parsed, parse_completion

# The escapes are those of the canonical JSON. A schema would allow all, halves of surrogate pairs
# too, which are no Unicode; and xgrammar (0.2) cannot bound or restrict the strings of a schema.
_TEXT = r"""
text ::= "\"" character+ "\""
character ::= [^"\\\x00-\x1f] | "\\" ["\\bfnrt] | "\\u00" [01] [0-9a-f]
id ::= "0" | [1-9] [0-9]{0,5}
"""


def graph_grammar(entity_types: Sequence[str], relation_types: Sequence[str]) -> str:
    """EBNF of the canonical JSON of a graph with only the wanted types, for constrained decoding.

    Without wanted types the matching list is empty.
    """
    open_, middle, close = map(_literal, ('{"entities":[', '],"relations":[', "]}"))
    lists = _items("entity", entity_types), _items("relation", relation_types)
    rules = [f"root ::= {open_} {lists[0]} {middle} {lists[1]} {close}"]
    if entity_types:
        rules.append(f"entity ::= {_object(('id', 'text'), ('id', 'text'), entity_types)}")
    if relation_types:
        rules.append(f"relation ::= {_object(('head', 'tail'), ('text', 'text'), relation_types)}")
    return "\n".join(rules) + _TEXT


def _object(keys: tuple[str, str], rules: tuple[str, str], types: Sequence[str]) -> str:
    first, second, third = (f'"{key}":' for key in (*keys, "type"))
    named = " | ".join(_literal(json.dumps(type_, ensure_ascii=False)) for type_ in types)
    parts = _literal("{" + first), rules[0], _literal("," + second), rules[1], _literal("," + third)
    return f"{' '.join(parts)} ({named}) {_literal('}')}"


def _items(rule: str, types: Sequence[str]) -> str:
    return f'({rule} ("," {rule})*)?' if types else '""'


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def graph_json_schema(entity_types: Sequence[str], relation_types: Sequence[str]) -> dict[str, Any]:
    """JSON Schema of a graph with only the wanted types, for endpoints, which take no grammar.

    Without wanted types the matching array must be empty.
    """
    text = {"type": "string"}
    entity = {
        "id": {"type": "integer", "minimum": 0},
        "text": text,
        "type": {"type": "string", "enum": list(entity_types)},
    }
    relation = {
        "head": text,
        "tail": text,
        "type": {"type": "string", "enum": list(relation_types)},
    }
    return _object_schema(
        {
            "entities": _array_schema(entity, entity_types),
            "relations": _array_schema(relation, relation_types),
        }
    )


def _array_schema(properties: dict[str, Any], types: Sequence[str]) -> dict[str, Any]:
    if not types:
        return {"type": "array", "maxItems": 0}
    return {"type": "array", "items": _object_schema(properties)}


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
