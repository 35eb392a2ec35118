"""What is kept, what is left out and why, the balanced draw, the card, and the data commands."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from t2g_ray.cli.data_commands import data_app
from t2g_ray.cli.exits import CommandGroup
from t2g_ray.data.card import card_page
from t2g_ray.data.select import REASONS, SelectOptions, select_records
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.records.jsonl import load_records, write_records
from t2g_ray.types import Record

ROW = {
    "tokens": ["Ann", "left", "Rome", "."],
    "entities": [{"type": "Peop", "start": 0, "end": 1}, {"type": "Loc", "start": 2, "end": 3}],
    "relations": [{"type": "Live_In", "head": 0, "tail": 1}],
}


def record(text: str, *names: str, relation: str = "", type_: str = "person") -> Record:
    """Entities of one type, and a relation from the first to the last."""
    return Record(
        text=text,
        entity_types=("person",),
        relation_types=("knows", "likes"),
        graph=Graph(
            tuple(Entity(id_, name, type_) for id_, name in enumerate(names)),
            (Relation(names[0], names[-1], relation),) if relation else (),
        ),
    )


app = typer.Typer(cls=CommandGroup, no_args_is_help=True)
app.add_typer(data_app, name="data")


def t2g(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])


def test_each_record_is_kept_or_left_out_for_its_first_reason() -> None:
    records = [
        record("Ann met Bo at the old mill in the rain.", "Ann", "Bo", relation="knows"),
        record("Ann met Bo again.", "Ann", "Cy"),
        record("Ann and Bo are robots.", "Ann", type_="robot"),
        record("Ann and Bo hate it.", "Ann", "Bo", relation="hates"),
        record("Ann.", "Ann"),
        record("Nobody was there that day."),
        record("Bo slept through a whole week of heavy rain and then went out again.", "Bo"),
        record("ann met Bo  at the old mill in the rain.", "Bo"),
        record("Ann met Bo at the old mills in the rain.", "Ann"),
        record("Di is held out.", "Di"),
        record("Ed is alone here.", "Ed"),
    ]
    options = SelectOptions(min_chars=10, max_chars=50, min_entities=1)
    selection = select_records(records, options, held_out=["di is held out."])
    assert selection.kept == [records[0], records[10]]
    assert [(item.number, item.reason) for item in selection.rejected] == [
        (2, "entity_not_in_text"),
        (3, "entity_type_outside_schema"),
        (4, "relation_type_outside_schema"),
        (5, "text_too_short"),
        (6, "too_few_entities"),
        (7, "text_too_long"),
        (8, "duplicate"),
        (9, "near_duplicate"),
        (10, "in_held_out_data"),
    ]
    assert [item.found for item in selection.rejected][:4] == ["Cy", "robot", "hates", "4"]


def test_a_rejected_record_does_not_hide_a_later_one_of_the_same_text() -> None:
    text = "Ann met Bo at the old mill."
    bad, good = record(text, "Zed"), record(text, "Ann")
    assert select_records([bad, good], SelectOptions()).kept == [good]


def test_near_duplicates_stay_on_request_and_identical_texts_never() -> None:
    text = "Ann met Bo at the old mill in the rain."
    records = [record(text), record(text.replace("mill", "mills")), record(text)]
    selection = select_records(records, SelectOptions(remove_near=False))
    assert selection.kept == records[:2]
    near_held_out = select_records(records[1:2], SelectOptions(remove_near=False), held_out=[text])
    assert near_held_out.kept == []


def people(count: int, relation: str, size: int) -> list[Record]:
    """Records of one length, in words that no other record has."""
    made = []
    for number in range(count):
        words = " ".join(f"{relation}{size:02}x{number:02}y{place:02}" for place in range(size))
        made.append(record(f"Ann Bo {words}", "Ann", "Bo", relation=relation))
    return made


def test_the_draw_gives_rare_types_and_all_lengths_their_turn() -> None:
    records = [*people(40, "knows", 5), *people(40, "knows", 20), *people(8, "likes", 5)]
    options = SelectOptions(max_records=24, seed=7)
    selection = select_records(records, options)
    drawn = Counter((r.graph.relations[0].type, len(r.text) > 100) for r in selection.kept)
    assert sum(drawn.values()) == 24
    assert drawn["likes", False] == 8
    assert drawn["knows", False] == drawn["knows", True] == 8
    assert Counter(item.reason for item in selection.rejected) == {"not_drawn": 64}
    assert [records.index(r) for r in selection.kept] == sorted(
        records.index(r) for r in selection.kept
    )


def test_a_seed_draws_the_same_records_and_another_seed_others() -> None:
    records = people(50, "knows", 6)
    first, again, other = (
        select_records(records, SelectOptions(max_records=10, seed=seed)).kept for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_nothing_is_drawn_when_no_more_is_left_than_wanted() -> None:
    records = people(5, "knows", 6)
    assert select_records(records, SelectOptions(max_records=5)).kept == records


def test_kept_and_rejected_add_up_on_the_card() -> None:
    records = [*people(30, "knows", 5), record("Zed is not named.", "Bo"), people(1, "knows", 5)[0]]
    selection = select_records(records, SelectOptions(max_records=20))
    card = selection.card()
    assert card["read"] == 32
    assert card["kept"] + sum(item["count"] for item in card["rejected"].values()) == 32
    assert set(card["rejected"]) == {"entity_not_in_text", "duplicate", "not_drawn"}
    assert set(card["rejected"]) <= set(REASONS)
    assert card["before"]["entities"] == 30 * 2 + 1 + 2
    assert card["after"]["types"]["relations"]["knows"] == 20
    samples = card["rejected"]["entity_not_in_text"]["samples"]
    assert samples == [{"record": 31, "found": "Bo", "text": "Zed is not named."}]


def write(path: Path, *records: Record) -> Path:
    write_records(path, records)
    return path


def test_the_command_writes_records_and_a_card_that_says_why(tmp_path: Path) -> None:
    good = record("Ann met Bo.", "Ann", "Bo", relation="knows")
    source = write(tmp_path / "all.jsonl", good, record("A|B\nmet.", "Cy"))
    held_out = write(tmp_path / "dev.jsonl", record("Unlike the others."))
    out, rejected = tmp_path / "out.jsonl", tmp_path / "rejected.jsonl"
    result = t2g("select", source, "--held-out", held_out, "--out", out, "--rejected", rejected)
    assert result.exit_code == 0, result.output
    assert load_records(out) == [good]
    card = json.loads((tmp_path / "out.jsonl.card.json").read_text())
    assert card["rejected"]["entity_not_in_text"]["count"] == 1
    page = (tmp_path / "out.jsonl.card.md").read_text()
    assert page == card_page(card)
    assert "| entity_not_in_text | 2 | Cy | A\\|B met. |" in page
    (line,) = rejected.read_text().splitlines()
    assert json.loads(line)["record"]["text"] == "A|B\nmet."


def test_a_selection_that_keeps_nothing_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    source, out = write(tmp_path / "all.jsonl", record("Ann.")), tmp_path / "out.jsonl"
    result = t2g("select", source, "--min-entities", 1, "--out", out)
    assert result.exit_code == 2
    assert "at least one of the 1 records must pass" in result.stderr
    assert not out.exists()


def source_file(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_the_import_command_names_layout_counts_and_reasons(tmp_path: Path) -> None:
    source = source_file(tmp_path / "rows.json", ROW, ROW | {"tokens": ["Ann"]})
    out, rejected = tmp_path / "made" / "out.jsonl", tmp_path / "rejected.jsonl"
    arguments = ("--types-map", "Peop=person", "--plain-types", "--rejected", rejected)
    result = t2g("import", source, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    assert "(spert)" in result.stdout
    assert "span_out_of_range" in result.stdout
    (made,) = load_records(out)
    assert made.entity_types == ("person", "loc")
    assert made.relation_types == ("live in",)
    assert json.loads(rejected.read_text())["place"] == f"{source}, record 2"


def test_import_with_strict_stops_at_a_rejected_row_and_writes_nothing(tmp_path: Path) -> None:
    source, out = source_file(tmp_path / "rows.json", ROW, {"tokens": 1}), tmp_path / "out.jsonl"
    result = t2g("import", source, "--layout", "spert", "--out", out, "--strict")
    assert result.exit_code == 2
    assert "record 2: a row must have the key 'entities'" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"tokens": 1}], "some row must become a record, found 1 of 1 rejected"),
        ([], "the source must hold at least one row"),
    ],
)
def test_an_import_of_no_record_is_an_error(
    rows: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    source, out = source_file(tmp_path / "rows.json", *rows), tmp_path / "out.jsonl"
    result = t2g("import", source, "--layout", "spert", "--out", out)
    assert result.exit_code == 2
    assert message in result.stderr


def test_types_given_on_the_command_line_are_the_schema(tmp_path: Path) -> None:
    source, out = source_file(tmp_path / "rows.json", ROW), tmp_path / "out.jsonl"
    arguments = ("--entity-types", "Loc, Peop,Org", "--relation-types", "Live_In,Kill")
    assert t2g("import", source, "--out", out, *arguments).exit_code == 0
    (made,) = load_records(out)
    assert made.entity_types == ("Loc", "Peop", "Org")
    assert made.relation_types == ("Live_In", "Kill")


@pytest.mark.parametrize("command", ["import", "inspect", "select"])
def test_every_data_command_has_help_with_an_example(command: str) -> None:
    result = t2g(command, "--help")
    assert result.exit_code == 0
    assert f"Example: t2g data {command}" in " ".join(result.stdout.split())
