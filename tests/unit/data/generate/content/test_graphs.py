"""Answers of a teacher -> the graph that is kept, and what repair leaves of a record."""

from __future__ import annotations

import pytest

from t2g_ray.data.checks import faults_of
from t2g_ray.data.generate.content.graphs import Chosen, NoGraph, choose_graph, repair
from t2g_ray.data.generate.teachers.teacher import TeacherOutcome
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.types import Record

ANN = Entity(0, "Ann", "person")

ACME = Entity(1, "Acme", "company")

WORKS = Relation("Ann", "Acme", "works for")


def graph_of(*items: Entity | Relation) -> Graph:
    return Graph(
        tuple(item for item in items if isinstance(item, Entity)),
        tuple(item for item in items if isinstance(item, Relation)),
    )


def samples(*texts: str) -> list[TeacherOutcome]:
    return [TeacherOutcome(number=0, sample=i, text=text) for i, text in enumerate(texts)]


def test_the_sample_that_is_most_alike_the_others_is_chosen() -> None:
    one, whole = graph_of(ANN), graph_of(ANN, ACME, WORKS)
    chosen = choose_graph(samples(one.to_json(), whole.to_json(), whole.to_json()))
    # F1 of {Ann} and {Ann, Acme, works for}: 2 * 1 / (1 + 3) = 0.5, twice, and 1 once.
    assert isinstance(chosen, Chosen)
    assert (chosen.graph, chosen.agreement) == (whole, pytest.approx(2 / 3))


def test_a_sample_without_a_graph_agrees_with_none() -> None:
    graph = graph_of(ANN)
    chosen = choose_graph(samples("I cannot.", graph.to_json(), graph.to_json()))
    assert isinstance(chosen, Chosen)
    assert (chosen.graph, chosen.agreement) == (graph, pytest.approx(1 / 3))
    assert choose_graph(samples("I cannot.", "Nor I.")) == NoGraph(
        reason="no_graph_no_json", message="no JSON object outside the reasoning"
    )


def test_a_cut_answer_keeps_its_whole_items_and_repeats_count_once() -> None:
    repeated = Graph((ANN, ANN, ACME), (WORKS, WORKS))
    text = repeated.to_json()
    cut = TeacherOutcome(number=0, sample=0, text=text[: text.rindex('"works')], is_cut=True)
    assert choose_graph([cut]) == Chosen(graph=graph_of(ANN, ACME, WORKS), agreement=None)


def test_repair_drops_what_the_text_does_not_hold_and_what_hangs_on_it() -> None:
    record = Record(
        text="Ann works for Acme.",
        entity_types=("person", "company"),
        relation_types=("works for",),
        graph=Graph(
            (Entity(0, "", "person"), Entity(1, "Bob", "person"), Entity(2, "Ann", "person")),
            (WORKS, Relation("Bob", "Ann", "works for"), Relation("Ann", "Ann", "knows")),
        ),
    )
    assert {fault.kind for fault in faults_of(record)} >= {"entity_not_in_text"}
    assert repair(record).graph == graph_of(ANN)
    assert faults_of(repair(record)) == []


def test_repair_gives_no_relation_of_a_removed_entity_to_another_of_its_text() -> None:
    record = Record(
        text="Ann works for Acme.",
        entity_types=("person", "company"),
        relation_types=("works for",),
        graph=graph_of(ANN, Entity(2, "Ann", "robot"), ACME, WORKS),
    )
    assert repair(record).graph == graph_of(ANN, ACME)
