"""A record and a completion -> what the parts of a reward look at."""

from __future__ import annotations

from unicodedata import normalize

import pytest

from t2g_ray.config.rewards import Shaping
from t2g_ray.graph import Entity, Graph
from t2g_ray.rewards.answer import Answer, Gold, read_answer
from t2g_ray.rewards.parts import grounding_part
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


@pytest.mark.parametrize("num_words", [0, 150, 250, 1000, 20_000])
@pytest.mark.parametrize("mention", ["José Núñez", "Đặng Thị", "이순신", "ガザ", "Ångström"])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_name_is_found_in_a_text_of_any_length_and_unicode_form(
    num_words: int, mention: str, forms: tuple[str, str]
) -> None:
    text = "drei Wörter übrig " * num_words + f"{mention} left."
    in_text, in_answer = normalize(forms[0], text), normalize(forms[1], mention)
    gold = Gold.of(
        Record(
            text=in_text,
            entity_types=("person",),
            relation_types=(),
            graph=Graph((Entity(0, normalize(forms[0], mention), "person"),), ()),
        )
    )
    answer = read_answer(
        Graph((Entity(0, in_answer, "person"),), ()).to_json(), gold, thinking=False
    )
    assert answer.entities == gold.entities
    assert grounding_part(answer, Shaping()) == 1.0
