"""Exact matches, near misses paired for the greatest credit, and F-beta, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.graph.counts import Counts, ItemKey
from t2g_ray.graph.matching import Match, f_beta, match, near_credit

words = st.sampled_from(["Ann", "Ann Lee", "Lee", "Bob Lee", "Acme", "the Acme", "Bob"])
types = st.sampled_from(["person", "company"])
entities = st.lists(st.tuples(words, types), max_size=4)
relations = st.lists(st.tuples(words, words, types), max_size=4)


def credit(gold: Sequence[ItemKey], predicted: Sequence[ItemKey]) -> float:
    return near_credit(match(gold, predicted))


def soft(gold: Sequence[ItemKey], predicted: Sequence[ItemKey]) -> float:
    found = match(gold, predicted)
    return f_beta(found.counts, near_credit=near_credit(found))


def test_equal_keys_match_copy_by_copy() -> None:
    ann, bob = ("Ann", "person"), ("Bob", "person")
    found = match([ann, ann, bob], [ann, bob, bob, ("Cy", "person")])
    assert found == Match(num_right=2, missed=[ann], spurious=[bob, ("Cy", "person")])
    assert found.counts == Counts(2, 2, 1)


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (1.0, 2 * 2 / (2 * 2 + 4 + 1)),
        # Precision 2/3, recall 1/3: F2 = 5PR / (4P + R), F0.5 = 1.25PR / (0.25P + R).
        (2.0, 5 * (2 / 3) * (1 / 3) / (4 * 2 / 3 + 1 / 3)),
        (0.5, 1.25 * (2 / 3) * (1 / 3) / (0.25 * 2 / 3 + 1 / 3)),
    ],
)
def test_f_beta_by_hand(beta: float, expected: float) -> None:
    assert f_beta(Counts(tp=2, fp=1, fn=4), beta) == pytest.approx(expected)


def test_f_beta_at_the_edges() -> None:
    assert f_beta(Counts(), 2.0) == 1.0
    assert f_beta(Counts(0, 3, 0), 2.0) == f_beta(Counts(0, 0, 3), 0.5) == 0.0


def test_an_entity_near_miss_earns_its_word_overlap_and_half_for_another_type() -> None:
    # Dice of {new, york, city} and {new, york} is 4/5.
    assert credit([("New York City", "city")], [("New York", "city")]) == pytest.approx(0.8)
    assert credit([("New York City", "city")], [("New York", "state")]) == pytest.approx(0.4)
    assert credit([("Ann", "person")], [("Bob", "person")]) == 0.0


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (("Ann", "Bolt", "works"), 1 / 2),  # head right
        (("Bob", "Acme", "works"), 1 / 2),  # tail right
        (("Acme", "Ann", "works"), 1 / 2),  # swapped
        (("Ann", "Acme", "owns"), 1 / 2),  # type wrong
        (("Acme", "Ann", "owns"), 1 / 4),  # swapped and type wrong
        (("Ann", "Bolt", "owns"), 1 / 4),  # head right, type wrong
        (("Acme", "Bolt", "works"), 1 / 4),  # one end right, on the wrong side
        (("Bob", "Bolt", "works"), 0.0),
    ],
)
def test_a_relation_near_miss_by_hand(predicted: ItemKey, expected: float) -> None:
    assert credit([("Ann", "Acme", "works")], [predicted]) == pytest.approx(expected)


def test_pairs_are_chosen_for_the_greatest_total_and_not_greedily() -> None:
    # The best single pair is (a b c d, a b c): 6/7. It leaves (a b, d) with nothing, while
    # (a b c d, d) 2/5 and (a b, a b c) 4/5 give 1.2 together.
    gold = [("a1 b c d", "x"), ("a1 b", "x")]
    predicted = [("a1 b c", "x"), ("d", "x")]
    assert credit(gold, predicted) == pytest.approx(2 / 5 + 4 / 5)


def test_one_gold_item_gives_credit_once() -> None:
    gold: list[ItemKey] = [("New York", "city")]
    assert credit(gold, [("York", "city")] * 3) == pytest.approx(2 / 3)
    assert soft(gold, [("York", "city")] * 3) == pytest.approx(2 * (2 / 3) / 4)


def test_near_misses_add_to_exact_matches() -> None:
    gold = [("New York City", "city"), ("Ann", "person")]
    assert soft(gold, [("New York", "city"), ("Ann", "person")]) == pytest.approx(0.9)


@given(st.one_of(st.tuples(entities, entities), st.tuples(relations, relations)))
def test_the_credit_is_the_best_over_all_pairings(
    pair: tuple[list[ItemKey], list[ItemKey]],
) -> None:
    found = match(*pair)
    few, many = sorted((found.missed, found.spurious), key=len)
    best = max(
        sum(credit([left], [right]) for left, right in zip(few, order, strict=False))
        for order in permutations(many)
    )
    assert near_credit(found) == pytest.approx(best)


@given(st.one_of(st.tuples(entities, entities), st.tuples(relations, relations)))
def test_soft_f1_is_symmetric_and_between_exact_f1_and_one(
    pair: tuple[list[ItemKey], list[ItemKey]],
) -> None:
    value = soft(*pair)
    assert value == pytest.approx(soft(*reversed(pair)))
    assert match(*pair).counts.f1 - 1e-12 <= value <= 1.0 + 1e-12
