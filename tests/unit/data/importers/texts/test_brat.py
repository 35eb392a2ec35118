"""Stand-off annotations -> the document, arguments and mentions that they name."""

from pathlib import Path

import pytest

from tests.unit.data.importers.parts import entities, read, relations, write

TEXT = "Ada joined Orbit in New\nYork."
ADA, ORBIT = "T1\tP 0 3\tAda\n", "T2\tO 11 16\tOrbit\n"


def one(folder: Path, annotations: str, text: str = TEXT) -> Path:
    write(folder / "a.ann", annotations)
    return write(folder / "a.txt", text).parent


def test_names_of_documents_can_have_dots(tmp_path: Path) -> None:
    for name in ("a", "a.b", "a.b.1", "v1.0", ".x", "a.txt"):
        write(tmp_path / "set" / f"{name}.txt", f"Ada {name}")
        write(tmp_path / "set" / f"{name}.ann", f"T1\tName 4 {4 + len(name)}\t{name}\n")
    result = read(tmp_path / "set")
    found = {str(r.extra["id"]): entities(r) for r in result.records}
    names = ["a", "a.b", "a.b.1", "v1.0", "a.txt"]
    assert {name: found[name] for name in names} == {name: [(name, "Name")] for name in names}


@pytest.mark.parametrize("arguments", ["Arg1:T1 Arg2:T2", "Arg2:T2 Arg1:T1"])
def test_arguments_are_what_they_are_called(arguments: str, tmp_path: Path) -> None:
    (record,) = read(one(tmp_path / "s", f"{ADA}{ORBIT}R1\tjoined {arguments}\n")).records
    assert relations(record) == [("Ada", "Orbit", "joined")]


@pytest.mark.parametrize(
    "arguments", ["Arg1:T1 Arg1:T2", "From:T1 To:T2", "T1 T2", "Arg1:T1", "Arg1:T1 Arg2:T2 Arg3:T2"]
)
def test_arguments_that_say_no_direction_reject_the_document(
    arguments: str, tmp_path: Path
) -> None:
    assert read(one(tmp_path / "s", f"{ADA}{ORBIT}R1\tjoined {arguments}\n")).reasons == {
        "wrong_shape": 1
    }


@pytest.mark.parametrize("offsets", ["20 23;24 28", "20 28"])
def test_a_mention_over_a_line_break_is_one_mention(offsets: str, tmp_path: Path) -> None:
    (record,) = read(one(tmp_path / "s", f"T1\tL {offsets}\tNew York\n")).records
    assert entities(record) == [("New\nYork", "L")]


@pytest.mark.parametrize(
    "lines",
    [ADA + ORBIT.replace("T2", "T1"), ADA + ADA, f"{ADA}{ORBIT}" + 2 * "R1\tx Arg1:T1 Arg2:T2\n"],
)
def test_an_id_that_two_lines_have_rejects_the_document(lines: str, tmp_path: Path) -> None:
    assert read(one(tmp_path / "s", lines)).reasons == {"repeated_id": 1}


def test_events_their_triggers_and_relations_are_counted_and_no_entities(tmp_path: Path) -> None:
    lines = (
        f"{ADA}{ORBIT}T3\tJoin 4 10\tjoined\nE1\tJoin:T3 Who:T1 What:T2\n"
        "R1\tcause Arg1:E1 Arg2:T2\nR2\tcause Arg1:T1 Arg2:T3\n*\tEquiv T1 T2\n"
    )
    result = read(one(tmp_path / "s", lines))
    assert entities(result.records[0]) == [("Ada", "P"), ("Orbit", "O")]
    assert relations(result.records[0]) == []
    assert result.changes == {
        "event not read": 1,
        "trigger of an event not read": 1,
        "relation of an event not read": 2,
        "equivalence not read": 1,
    }


def test_a_line_separator_inside_a_mention_ends_no_line(tmp_path: Path) -> None:
    text = "Ada\u2028Stone left."
    (record,) = read(one(tmp_path / "s", "T1\tP 0 9\tAda\u2028Stone\n", text)).records
    assert entities(record) == [("Ada\u2028Stone", "P")]


def test_a_document_without_annotations_is_counted(tmp_path: Path) -> None:
    (name,) = read(one(tmp_path / "s", "\n")).changes
    assert name.startswith("document without a line of annotations")
