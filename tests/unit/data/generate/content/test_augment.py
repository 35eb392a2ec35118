"""Copies of records: other names, fewer types, other words; and what is left alone."""

from __future__ import annotations

import pytest

from t2g_ray.data.checks import faults_of
from t2g_ray.data.generate.config import AugmentConfig
from t2g_ray.data.generate.content.augment import (
    PlainAnswer,
    copies,
    marked,
    paraphrases,
    plain_answer,
)
from t2g_ray.data.generate.teachers.teacher import TeacherOutcome
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.records.corpus import NAMES, generate_records
from t2g_ray.types import Record


def record_of(
    text: str, *entities: tuple[str, str], relations: tuple[Relation, ...] = ()
) -> Record:
    return Record(
        text=text,
        entity_types=("person", "company"),
        relation_types=("works for",),
        graph=Graph(tuple(Entity(i, *pair) for i, pair in enumerate(entities)), relations),
    )


def test_swapped_records_of_the_embedded_world_keep_every_fact() -> None:
    types = {name: type_ for type_, names in NAMES.items() for name in names}
    records = [marked(record, source="x") for record in generate_records("train", 80, seed=1)]
    made, _ = copies(records, AugmentConfig(name_swaps=1), seed=0)
    by_shape = {(r.entity_types, r.relation_types, _shape(r, types)) for r in records}
    assert len(made) > 60
    for new in made:
        assert faults_of(new) == []
        # The text with types in place of names, and the graph over them, are those of a record.
        assert (new.entity_types, new.relation_types, _shape(new, types)) in by_shape


def _shape(record: Record, types: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    words = record.text.replace(".", " .").replace(",", " ,").split()
    places = {name: str(words.index(name)) for name in types if name in words}
    shown = " ".join(types.get(word, word) for word in words)
    graph = record.graph
    facts = [f"{places[r.head]} {r.type} {places[r.tail]}" for r in graph.relations]
    return shown, (*(f"{places[e.text]} {e.type}" for e in graph.entities), *facts)


def test_copies_depend_on_the_seed_and_are_counted_where_they_say_nothing_new() -> None:
    records = [marked(record, source="x") for record in generate_records("train", 10, seed=1)]
    config = AugmentConfig(sub_schemas=8)
    made, not_made = copies(records, config, seed=0)
    assert (made, not_made) == copies(records, config, seed=0)
    assert made != copies(records, config, seed=1)[0]
    assert len(made) + not_made["sub_schema"] == 80
    assert not_made["sub_schema"] > 0
    keys = [(new.text, new.entity_types, new.relation_types) for new in made]
    assert len(set(keys)) == len(keys)
    assert all(new.extra["generated"]["variant"] == "sub_schema" for new in made)


def outcome(text: str, *, is_cut: bool = False, reason: str = "") -> TeacherOutcome:
    return TeacherOutcome(number=0, sample=0, text=text, is_cut=is_cut, reason=reason)


def test_a_paraphrase_keeps_every_name_and_says_something_new() -> None:
    record = record_of("Ann works.", ("Ann", "person"))
    answers = [
        outcome("<think>Let me see.</think>\nThere is work for Ann."),
        outcome("She works."),
        outcome("ann  works."),
        outcome("There is work for Ann."),
        outcome("Ann has", is_cut=True),
        outcome("", reason="prompt_too_long"),
    ]
    found = [new for _, new in paraphrases([record], [answers])]
    assert isinstance(found[0], Record)
    assert (found[0].text, found[0].graph) == ("There is work for Ann.", record.graph)
    assert [new.reason for new in found[1:] if isinstance(new, PlainAnswer)] == [
        "paraphrase_lost_a_name",
        "paraphrase_is_the_text",
        "paraphrase_is_the_text",
        "answer_cut",
        "prompt_too_long",
    ]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Ann is named.", "Ann is named."),
        ("<think>hm</think> Ann is named.", "Ann is named."),
        ("hm</think>Ann is named.", "Ann is named."),
        ("<think>Ann is named.</think>\n", "Ann is named."),
        ("<think>Ann is named.", "Ann is named."),
    ],
)
def test_an_answer_is_what_is_said_after_thinking(text: str, plain: str) -> None:
    assert plain_answer(outcome(text)) == PlainAnswer(text=plain)


def test_an_answer_without_text_has_a_reason() -> None:
    assert plain_answer(outcome("<think> </think>")).reason == "answer_empty"
