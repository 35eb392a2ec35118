"""Counts, their sums, and the two ways of comparing keys: exact and relaxed."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.counts import (
    Counts,
    GraphCounts,
    MatchMode,
    TypeCounts,
    count_strict_relations,
    entity_keys,
    macro_f1,
    micro,
    score_graph,
    score_types,
)
from t2g_ray.graph.matching import match, near_credit
from t2g_ray.graph.parsing import parse_completion


def graph(entities: str = "", relations: str = "") -> Graph:
    """graph("Ann:person Acme:company", "Ann>Acme:works") in short."""
    return Graph(
        tuple(Entity(i, *item.split(":")) for i, item in enumerate(entities.split())),
        tuple(Relation(*item.replace(">", ":").split(":")) for item in relations.split()),
    )


names = st.sampled_from(["Ann", "ann", " Ann", "the Ann", "Bob", "Caf\u00e9", "Cafe\u0301"])
types = st.sampled_from(["person", "company"])
graphs = st.builds(
    Graph,
    st.lists(st.builds(Entity, st.just(0), names, types), max_size=5).map(tuple),
    st.lists(st.builds(Relation, names, names, types), max_size=5).map(tuple),
)
modes: st.SearchStrategy[MatchMode] = st.sampled_from(("exact", "relaxed"))


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1"),
    [
        (Counts(3, 1, 2), 3 / 4, 3 / 5, 2 / 3),
        (Counts(0, 0, 0), 1.0, 1.0, 1.0),
        (Counts(0, 2, 0), 0.0, 0.0, 0.0),
        (Counts(0, 0, 2), 0.0, 0.0, 0.0),
    ],
)
def test_precision_recall_and_f1_by_hand(
    counts: Counts, precision: float, recall: float, f1: float
) -> None:
    assert counts.precision == precision
    assert counts.recall == recall
    assert counts.f1 == pytest.approx(f1)


def test_entities_match_by_text_and_type_and_relations_by_all_three() -> None:
    gold = graph("Ann:person Acme:company Rome:city", "Ann>Acme:works Acme>Rome:in")
    predicted = graph("Ann:person Acme:city", "Acme>Ann:works Acme>Rome:in Ann>Acme:in")
    counts = score_graph(gold, predicted)
    assert counts.entities == Counts(1, 1, 2)
    assert counts.relations == Counts(1, 2, 1)


def test_a_failed_parse_misses_all_gold() -> None:
    gold = graph("Ann:person Acme:company", "Ann>Acme:works")
    expected = GraphCounts(Counts(0, 0, 2), Counts(0, 0, 1))
    assert score_graph(gold, parse_completion("nothing").graph) == expected
    assert score_graph(gold, None) == expected


def test_nothing_found_where_nothing_is_adds_no_error() -> None:
    assert score_graph(graph(), graph()) == GraphCounts(Counts(0, 0, 0), Counts(0, 0, 0))


def test_case_articles_and_punctuation_count_only_when_exact() -> None:
    gold = graph("Beatles:Group")
    near = Graph((Entity(0, '"the BEATLES",', "group"),), ())
    assert score_graph(gold, near, "exact").entities == Counts(0, 1, 1)
    assert score_graph(gold, near, "relaxed").entities == Counts(1, 0, 0)


@given(graphs, graphs, modes)
def test_swapping_gold_and_prediction_swaps_the_two_errors(
    left: Graph, right: Graph, mode: MatchMode
) -> None:
    there, back = score_graph(left, right, mode), score_graph(right, left, mode)
    for ours, theirs in ((there.entities, back.entities), (there.relations, back.relations)):
        assert (ours.tp, ours.fp, ours.fn) == (theirs.tp, theirs.fn, theirs.fp)
        assert ours.f1 == theirs.f1


@given(st.lists(st.tuples(graphs, graphs), max_size=4), st.integers(0, 4))
def test_counts_of_all_records_are_the_sum_over_any_cut(
    pairs: list[tuple[Graph, Graph]], cut: int
) -> None:
    each = [score_graph(gold, predicted) for gold, predicted in pairs]
    whole = sum(each, GraphCounts())
    assert whole == sum(each[:cut], GraphCounts()) + sum(each[cut:], GraphCounts())
    num_gold = sum(len(gold.entities) for gold, _ in pairs)
    num_predicted = sum(len(predicted.entities) for _, predicted in pairs)
    assert whole.entities.tp + whole.entities.fn == num_gold
    assert whole.entities.tp + whole.entities.fp == num_predicted


@given(graphs, graphs, modes)
def test_counts_by_type_add_up_to_the_total(gold: Graph, predicted: Graph, mode: MatchMode) -> None:
    total = score_graph(gold, predicted, mode)
    by_type = score_types(gold, predicted, mode)
    assert micro(by_type.entities) == total.entities
    assert micro(by_type.relations) == total.relations


def test_micro_adds_items_and_macro_takes_the_mean_over_types() -> None:
    # Two records. person: 2 right, 1 spurious, 0 missed; city: 0 right, 0 spurious, 1 missed.
    total = score_types(graph("Ann:person Rome:city"), graph("Ann:person"))
    total += score_types(graph("Bob:person"), graph("Bob:person Cy:person"))
    assert total == TypeCounts({"person": Counts(2, 1, 0), "city": Counts(0, 0, 1)}, {})
    assert micro(total.entities) == Counts(2, 1, 1)
    assert micro(total.entities).f1 == pytest.approx(2 / 3)
    assert macro_f1(total.entities) == pytest.approx((0.8 + 0.0) / 2)
    assert macro_f1({}) == 1.0


def test_scoring_hostile_graphs_takes_seconds() -> None:
    gold = graph("Ann:person Acme:company", "Ann>Acme:works")
    marks = "a" + "\u0301\u0316" * 200_000
    hostile = Graph(
        (Entity(0, marks, "person"), *(Entity(i, f"Ann {i}", "person") for i in range(20_000))), ()
    )
    start = time.perf_counter()
    for mode in ("exact", "relaxed"):
        score_graph(gold, hostile, mode)
    near_credit(match(entity_keys(gold), entity_keys(hostile)))
    assert time.perf_counter() - start < 5


ANN, ACME = Entity(0, "Ann", "person"), Entity(1, "Acme", "company")
WORKS = Relation("Ann", "Acme", "works for")
STRICT_GOLD = Graph((ANN, ACME), (WORKS,))


@pytest.mark.parametrize(
    ("entities", "is_right"),
    [
        ((ANN, ACME), True),
        ((ACME, ANN), True),
        ((ANN, ACME, Entity(2, "Rome", "city")), True),
        ((ANN, ACME, ANN), True),
        ((Entity(0, "Ann", "company"), ACME), False),
        ((ANN, Entity(1, "Acme", "person")), False),
        ((Entity(0, "Ann", "company"), Entity(1, "Acme", "person")), False),
        ((ANN, Entity(2, "Ann", "company"), ACME), False),
        ((ANN,), False),
        ((), False),
    ],
)
def test_strict_relations_ask_for_the_types_of_both_ends(
    entities: tuple[Entity, ...], is_right: bool
) -> None:
    answer = Graph(entities, (WORKS,))
    assert score_graph(STRICT_GOLD, answer).relations == Counts(1, 0, 0)
    expected = Counts(1, 0, 0) if is_right else Counts(0, 1, 1)
    assert count_strict_relations(STRICT_GOLD, answer) == expected


@given(st.data())
def test_strict_counts_have_the_same_sums_and_are_never_more_right(data: st.DataObject) -> None:
    names, types = st.sampled_from(["a", "b", "c", "1", "0"]), st.sampled_from(["0", "1", "t"])
    entities = st.lists(st.builds(Entity, st.integers(0, 9), names, types), max_size=4)
    relations = st.lists(st.builds(Relation, names, names, types), max_size=4)
    gold, answer = (
        Graph(tuple(data.draw(entities)), tuple(data.draw(relations))) for _ in range(2)
    )
    exact, strict = score_graph(gold, answer).relations, count_strict_relations(gold, answer)
    assert (strict.tp + strict.fp, strict.tp + strict.fn) == (
        exact.tp + exact.fp,
        exact.tp + exact.fn,
    )
    assert strict.tp <= exact.tp
    assert count_strict_relations(gold, gold).f1 == 1.0
    assert count_strict_relations(gold, None) == Counts(0, 0, len(gold.relations))
