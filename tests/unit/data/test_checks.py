"""Every fault that a record can have, found where it is."""

from t2g_ray.data.checks import FAULTS, faults_of
from tests.unit.data.parts import record


def test_every_kind_of_fault_is_found_once_where_it_is() -> None:
    faulty = record(
        "Ann left.",
        ("Ann", "person"),
        ("Ann", "person"),
        ("Bo", "robot"),
        relations=(("Ann", "Bo", "knows"), ("Ann", "Bo", "knows"), ("Ann", "Rome", "lives in")),
    )
    found = [(fault.kind, fault.found) for fault in faults_of(faulty)]
    assert sorted(found) == [
        ("entity_not_in_text", "Bo"),
        ("entity_type_outside_schema", "robot"),
        ("relation_end_is_no_entity", "Rome"),
        ("relation_type_outside_schema", "knows"),
        ("relation_type_outside_schema", "knows"),
        ("repeated_entity", "Ann, person"),
        ("repeated_relation", "Ann, Bo, knows"),
    ]
    assert {kind for kind, _ in found} == set(FAULTS)
    good = (("Ann", "person"), ("Rome", "city"))
    assert faults_of(record("Ann, Rome", *good, relations=(("Ann", "Rome", "lives in"),))) == []
