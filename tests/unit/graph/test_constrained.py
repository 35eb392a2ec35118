"""The schema that an answer is held to while it is written, and what is left of a cut answer."""

import json

import pytest

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.constrained import graph_json_schema

ANN = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Caf\u00e9", "company")),
    (Relation("Ann", "Caf\u00e9", "works for"),),
)


def _is_accepted(schema: dict[str, object], text: str) -> bool:
    xgrammar = pytest.importorskip("xgrammar", reason="constrained decoding comes with vLLM")
    grammar = xgrammar.Grammar.from_json_schema(
        json.dumps(schema), any_whitespace=False, separators=(",", ":")
    )
    accepted: bool = xgrammar.testing._is_grammar_accept_string(grammar, text)
    return accepted


def test_constrained_decoding_can_write_canonical_json_and_no_unwanted_type() -> None:
    schema = graph_json_schema(["person", "company"], ["works for"])
    assert _is_accepted(schema, ANN.to_json())
    assert _is_accepted(schema, Graph((), ()).to_json())
    assert not _is_accepted(schema, ANN.to_json().replace('"person"', '"robot"'))
    assert not _is_accepted(schema, '{"relations":[],"entities":[]}')


def test_constrained_decoding_without_relation_types_leaves_relations_empty() -> None:
    schema = graph_json_schema(["person", "company"], [])
    assert _is_accepted(schema, Graph(ANN.entities, ()).to_json())
    assert not _is_accepted(schema, ANN.to_json())


def test_constrained_decoding_can_be_held_to_a_length() -> None:
    schema = graph_json_schema(["person", "company"], ["works for"], max_text_chars=10)
    assert _is_accepted(schema, ANN.to_json().replace("Ann", "A" * 10))
    assert not _is_accepted(schema, ANN.to_json().replace("Ann", "A" * 11))


def test_constrained_decoding_can_write_quotes_and_backslashes_but_no_raw_control_character() -> (
    None
):
    schema = graph_json_schema(["person"], [])
    quoted = Graph((Entity(0, 'the "Who"\\', "person"),), ()).to_json()
    assert _is_accepted(schema, quoted)
    assert not _is_accepted(schema, quoted.replace("the ", "the\t"))
