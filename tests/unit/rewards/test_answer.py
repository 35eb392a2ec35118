"""A record and a completion -> what the parts of a reward look at."""

from __future__ import annotations

import pytest

from t2g_ray.graph import Entity, Graph
from t2g_ray.rewards.answer import Answer, Gold, read_answer
from t2g_ray.types import Record

ANN = Graph((Entity(0, "Ann", "person"),), ())
SILENCE = Graph((), ())


def answer(text: str, graph: Graph = ANN, *, thinking: bool = False) -> Answer:
    record = Record(text="Ann.", entity_types=("person",), relation_types=(), graph=graph)
    return read_answer(text, Gold.of(record), thinking=thinking)


def test_a_graph_is_graded_by_its_keys() -> None:
    found = answer(ANN.to_json())
    assert found.graph == ANN
    assert found.entities == found.gold.entities
    assert (found.relations, found.num_tokens) == ([], 0)


@pytest.mark.parametrize(("gold", "graded"), [(ANN, None), (SILENCE, SILENCE)])
def test_silence_is_an_answer_only_where_there_is_nothing_to_find(
    gold: Graph, graded: Graph | None
) -> None:
    assert answer(SILENCE.to_json(), gold).graph == graded


def test_text_without_a_graph_has_no_keys() -> None:
    found = answer("I do not know.")
    assert (found.graph, found.entities, found.relations) == (None, [], [])


def test_a_graph_inside_the_reasoning_is_no_answer() -> None:
    text = f"<think>{ANN.to_json()}</think>{SILENCE.to_json()}"
    assert answer(text, thinking=True).graph is None
