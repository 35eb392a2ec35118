"""The commands of t2g data: what they write, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from t2g_ray.cli.data_commands import data_app
from t2g_ray.cli.exits import CommandGroup
from t2g_ray.data.card import card_page
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


def outputs_refused(tmp_path: Path, command: list[object], option: str, source: Path) -> None:
    """Every way in which `option` could destroy the source is refused, and the source is whole."""
    before = source.read_bytes()
    link, other = tmp_path / "link.jsonl", source.with_name("hard.jsonl")
    link.symlink_to(source)
    other.hardlink_to(source)
    for out in (source, link, other, source.parent, source.parent / ".." / "in" / source.name):
        result = t2g(*command, option, out)
        assert result.exit_code == 2, (out, result.output)
        assert "must " in result.stderr
        assert source.read_bytes() == before
    link.unlink()
    other.unlink()


def test_no_data_command_writes_over_what_it_reads(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = source_file(folder / "rows.json", ROW)
    records = write(tmp_path / "in" / "all.jsonl", record("Ann met Bo.", "Ann"))
    held_out = write(tmp_path / "in" / "dev.jsonl", record("Unlike the others."))
    out = tmp_path / "out.jsonl"
    outputs_refused(tmp_path, ["import", rows], "--out", rows)
    outputs_refused(tmp_path, ["import", rows, "--out", out], "--rejected", rows)
    outputs_refused(tmp_path, ["inspect", records], "--json", records)
    select = ["select", records, "--held-out", held_out]
    outputs_refused(tmp_path, [*select], "--out", records)
    outputs_refused(tmp_path, [*select], "--out", held_out)
    outputs_refused(tmp_path, [*select, "--out", out], "--rejected", held_out)
    assert not out.exists()


def test_nothing_is_written_into_a_folder_that_is_imported(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source_file(folder / "rows.json", ROW)
    for option in ("--out", "--rejected"):
        out = [] if option == "--out" else ["--out", tmp_path / "out.jsonl"]
        result = t2g("import", folder, *out, option, folder / "new.jsonl")
        assert result.exit_code == 2
        assert "must not be inside the input folder" in result.stderr


def test_schemas_and_maps_are_inputs_too(tmp_path: Path) -> None:
    rows = source_file(tmp_path / "rows.json", ROW)
    schema = tmp_path / "schema.json"
    schema.write_text('{"entity_types": ["Peop", "Loc"], "relation_types": ["Live_In"]}')
    names = tmp_path / "names.json"
    names.write_text('{"Peop": "person"}')
    types = tmp_path / "x_types.json"
    types.write_text("{}")
    for out in (schema, names, types):
        result = t2g("import", rows, "--schema", schema, "--types-map", names, "--out", out)
        assert result.exit_code == 2
        assert "must not be an input of the command" in result.stderr


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.card.json", "out.jsonl.card.md"])
def test_two_outputs_of_a_selection_are_two_files(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "all.jsonl", record("Ann met Bo.", "Ann"))
    result = t2g("select", source, "--out", tmp_path / "out.jsonl", "--rejected", tmp_path / name)
    assert result.exit_code == 2
    assert "must be two files" in result.stderr
    card = write(tmp_path / "new.jsonl.card.json", record("Ann met Bo.", "Ann"))
    result = t2g("select", card, "--out", tmp_path / "new.jsonl")
    assert result.exit_code == 2
    assert "must not be an input" in result.stderr


def test_files_that_were_not_read_and_splits_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    for name in ("train.json", "dev.json", ".ipynb_checkpoints/train-checkpoint.json"):
        source_file(folder / name, ROW)
    result = t2g("import", folder, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    assert "files that were not read: .ipynb_checkpoints/train-checkpoint.json" in result.stdout
    assert [r.extra["split"] for r in load_records(tmp_path / "out.jsonl")] == ["dev", "train"]
    assert "records by split: dev 1, train 1" in result.stdout
