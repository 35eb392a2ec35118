"""The grammar that an answer is held to while it is written, and what is left of a cut answer."""

from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.constrained import graph_grammar, graph_json_schema

ANN = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Caf\u00e9", "company")),
    (Relation("Ann", "Caf\u00e9", "works for"),),
)


def is_accepted(grammar: Any, text: str) -> bool:
    xgrammar = pytest.importorskip("xgrammar", reason="constrained decoding comes with vLLM")
    accepted: bool = xgrammar.testing._is_grammar_accept_string(grammar, text)
    return accepted


def compiled(entity_types: Sequence[str], relation_types: Sequence[str]) -> Any:
    xgrammar = pytest.importorskip("xgrammar", reason="constrained decoding comes with vLLM")
    return xgrammar.Grammar.from_ebnf(graph_grammar(entity_types, relation_types))


def test_constrained_decoding_can_write_canonical_json_and_no_unwanted_type() -> None:
    grammar = compiled(["person", "company"], ["works for"])
    assert is_accepted(grammar, ANN.to_json())
    assert is_accepted(grammar, Graph((), ()).to_json())
    assert not is_accepted(grammar, ANN.to_json().replace('"person"', '"robot"'))
    assert not is_accepted(grammar, '{"relations":[],"entities":[]}')


def test_constrained_decoding_without_types_leaves_their_list_empty() -> None:
    grammar = compiled(["person", "company"], [])
    assert is_accepted(grammar, Graph(ANN.entities, ()).to_json())
    assert not is_accepted(grammar, ANN.to_json())
    assert is_accepted(compiled([], []), Graph((), ()).to_json())


@pytest.mark.parametrize(("num_entities", "num_relations"), [(65, 0), (64, 129), (500, 1000)])
def test_a_graph_may_be_as_large_as_its_text_asks_for(
    num_entities: int, num_relations: int
) -> None:
    names = [f"e{number}" for number in range(num_entities)]
    graph = Graph(
        tuple(Entity(number, name, "person") for number, name in enumerate(names)),
        tuple(Relation(names[0], names[number % 9], "knows") for number in range(num_relations)),
    )
    assert is_accepted(compiled(["person"], ["knows"]), graph.to_json())
    jsonschema.validate(graph.to_dict(), graph_json_schema(["person"], ["knows"]))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_whatever_unicode_a_text_or_type_holds_can_be_written(
    text: str, other: str, type_: str, relation: str
) -> None:
    graph = Graph((Entity(7, text, type_),), (Relation(text, other, relation),))
    assert is_accepted(compiled(["a", type_], [relation]), graph.to_json())


@pytest.mark.parametrize(
    "written",
    ["\\ud800", "\\uDC00", "a\\udfff", "\\ud83d\\ude00", "\t", "\x00", "\\x", '"', "\\", ""],
)
def test_no_text_can_be_written_that_is_none(written: str) -> None:
    answer = f'{{"entities":[{{"id":0,"text":"{written}","type":"a"}}],"relations":[]}}'
    assert is_accepted(compiled(["a"], []), answer.replace(f'"{written}"', '"b"'))
    assert not is_accepted(compiled(["a"], []), answer)
