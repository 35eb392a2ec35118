"""A completion -> the answer to one text, with the places of its entities."""

from __future__ import annotations

import pytest

from t2g_ray.serving.schema import (
    TextSpan,
)
from tests.unit.serving.parts import GRAPH, answered


def test_a_graph_is_answered_with_the_places_of_its_entities() -> None:
    answer = answered(GRAPH.to_json())
    assert (answer.parse, answer.message) == ("ok", None)
    assert answer.graph is not None
    chen, jentek = answer.graph.entities
    assert (chen.id, chen.text, chen.type, chen.start, chen.end) == (0, "Chen", "person", 0, 4)
    assert jentek.spans == [TextSpan(start=15, end=21)]
    [relation] = answer.graph.relations
    assert (relation.head, relation.tail, relation.type) == ("Chen", "Jentek", "works for")


def test_an_entity_that_stands_nowhere_has_no_offsets() -> None:
    answer = answered(GRAPH.to_json(), text="Nobody.")
    assert answer.graph is not None
    assert [(e.start, e.end, e.spans) for e in answer.graph.entities] == [(None, None, [])] * 2


@pytest.mark.parametrize(
    ("num_chars", "num_entities", "num_relations"),
    [(0, 0, 0), (50, 0, 0), (51, 1, 0), (92, 1, 0), (93, 2, 0), (-3, 2, 0), (-2, 2, 1)],
)
def test_a_constrained_answer_that_was_cut_keeps_its_whole_items(
    num_chars: int, num_entities: int, num_relations: int
) -> None:
    answer = answered(GRAPH.to_json()[:num_chars])
    assert answer.parse == "cut"
    assert answer.message is not None
    assert answer.graph is not None
    assert (len(answer.graph.entities), len(answer.graph.relations)) == (
        num_entities,
        num_relations,
    )


def test_a_free_answer_without_a_graph_names_the_failure() -> None:
    answer = answered("I do not know.", is_constrained=False)
    assert (answer.graph, answer.parse) == (None, "no_json")
    assert answered(GRAPH.to_json()[:40], is_constrained=False).parse == "truncated"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ('{"entities":[{"id":0,"text":"\\ud800","type":"person"}],"relations":[]}', "wrong_shape"),
        ('{"entities":[{"id":0,"text":"a","type":"\\udfff"}],"relations":[]}', "wrong_shape"),
        ('{"entities":[{"id":"0","text":"a","type":"b"}],"relations":[]}', "wrong_shape"),
        ('{"entities":[{"id":0,"id":0,"text":"a","type":"b"}],"relations":[]}', "duplicate_key"),
        ('{"entities":[{"id":0,"text":"a\x01","type":"b"}],"relations":[]}', "invalid_json"),
        ("no graph", "no_json"),
    ],
)
def test_only_an_answer_that_ends_too_early_is_called_cut(fault: str, kind: str) -> None:
    answer = answered(fault)
    assert (answer.graph, answer.parse) == (None, kind)
    assert answer.message
