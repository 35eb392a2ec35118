"""Names in text and graph -> other names of their type, or nothing where that would not be true."""

from __future__ import annotations

import numpy as np
import pytest

from t2g_ray.data.generate.content.names import name_pool, swap_names
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.types import Record

POOL = {"person": ["Bo Lund"], "company": ["Zentra"]}


def record_of(
    text: str, *entities: tuple[str, str], relations: tuple[Relation, ...] = ()
) -> Record:
    return Record(
        text=text,
        entity_types=("person", "company"),
        relation_types=("works for",),
        graph=Graph(tuple(Entity(i, *pair) for i, pair in enumerate(entities)), relations),
    )


def swap(record: Record) -> Record | None:
    return swap_names(record, POOL, np.random.default_rng(0))


def test_a_name_is_replaced_everywhere_in_text_and_graph() -> None:
    new = swap(
        record_of(
            "Cara Wu works for Jentek. Cara Wu's badge is from Jentek.",
            ("Cara Wu", "person"),
            ("Jentek", "company"),
            relations=(Relation("Cara Wu", "Jentek", "works for"),),
        )
    )
    assert new is not None
    assert new.text == "Bo Lund works for Zentra. Bo Lund's badge is from Zentra."
    assert new.graph == Graph(
        (Entity(0, "Bo Lund", "person"), Entity(1, "Zentra", "company")),
        (Relation("Bo Lund", "Zentra", "works for"),),
    )


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("Wu met Cara Wu.", [("Cara Wu", "person")]),  # part of the name stands alone
        ("CARA WU met Cara Wu.", [("Cara Wu", "person")]),
        ("Wu Ltd hired Cara Wu.", [("Cara Wu", "person"), ("Wu Ltd", "product")]),
        ("Lena Wu met Bo.", [("Lena Wu", "person")]),  # the only new name shares a word
        ("Jordan is here.", [("Jordan", "person"), ("Jordan", "company")]),  # two types
        ("The Lennox house.", [("Len", "person")]),  # inside a word only
        ("An Apollo badge.", [("Apollo", "company")]),  # "an" would not fit the new name
        ("Cara Wu is here.", [("Cara Wu", "animal")]),  # no other name of this type
    ],
)
def test_a_name_that_cannot_be_replaced_truly_is_left_alone(
    text: str, entities: list[tuple[str, str]]
) -> None:
    assert swap(record_of(text, *entities)) is None


def test_the_names_of_these_cases_are_replaced_where_nothing_stands_against_it() -> None:
    for name, type_ in (("Cara Wu", "person"), ("Lena Wu", "person"), ("Jordan", "company")):
        assert swap(record_of(f"{name} is here.", (name, type_))) is not None


def test_names_with_signs_are_names_and_not_patterns() -> None:
    new = swap(record_of("C. (Bob) Day+ left. CxBob stayed.", ("C. (Bob) Day+", "person")))
    assert new is not None
    assert new.text == "Bo Lund left. CxBob stayed."


def test_the_pool_holds_names_of_one_type_in_one_order() -> None:
    records = [
        record_of("x", ("Wu", "person"), ("Acme", "company")),
        record_of("y", ("Bo", "person"), ("Wu", "company")),
    ]
    assert name_pool(records) == {"company": ["Acme"], "person": ["Bo"]}
