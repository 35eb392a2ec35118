"""Counts, faults, repeats and leaks of records, against small sets counted by hand."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from t2g_ray.cli.data_commands import data_app
from t2g_ray.data.inspect import SplitRecords, find_leaks, find_repeats, inspect_files
from t2g_ray.records.jsonl import write_records
from t2g_ray.types import Record
from tests.unit.data.parts import record, split

LONG = "The old mill by the river was sold to a baker from Lund in the spring of 1904."


def test_counts_types_and_lengths_are_those_of_the_records() -> None:
    part = SplitRecords(
        name="a",
        records=[
            record("x" * 10),
            record("Ann Bo" + "x" * 14, ("Ann", "person"), ("Bo", "person")),
            record("Rome" + "x" * 26, ("Rome", "city"), relations=(("Rome", "Rome", "lives in"),)),
        ],
    )
    assert part.counts() == {
        "records": 3,
        "entities": 3,
        "relations": 1,
        "records_without_entities": 1,
        "records_without_relations": 2,
    }
    assert part.types() == {"entities": {"person": 2, "city": 1}, "relations": {"lives in": 1}}
    lengths = part.lengths()
    assert (lengths["min"], lengths["median"], lengths["max"]) == (10, 20, 30)
    # Bins of 21 // 10 + 1 = 3 characters from 10 on: 10 to 12, ..., 28 to 30.
    assert lengths["histogram"][0] == [10, 12, 1]
    assert lengths["histogram"][3] == [19, 21, 1]
    assert lengths["histogram"][-1] == [28, 30, 1]
    assert sum(count for _, _, count in lengths["histogram"]) == 3


@pytest.mark.parametrize(
    ("text", "is_identical"),
    [
        (LONG.upper() + "  ", True),
        (LONG.replace("Lund", "Lunda"), False),
        (LONG.replace("1904", "1905"), False),
    ],
)
def test_the_same_and_nearly_the_same_text_leak(text: str, is_identical: bool) -> None:
    leak = find_leaks(split("train", "Other words.", LONG), split("dev", text))
    assert (leak.num_identical, leak.num_near) == (is_identical, not is_identical)
    assert leak.samples == ((LONG, text),)


@pytest.mark.parametrize(
    "text",
    [
        "Another mill by the sea was given to a smith from Oslo in the winter of 1850.",
        " ".join(reversed(LONG.split())),
        "Bread.",
    ],
)
def test_texts_that_share_few_words_or_their_order_do_not_leak(text: str) -> None:
    leak = find_leaks(split("train", LONG), split("dev", text))
    assert (leak.num_identical, leak.num_near, leak.samples) == (0, 0, ())


def test_a_leak_counts_texts_of_the_smaller_split() -> None:
    small, large = split("small", LONG), split("large", LONG, LONG, "Other words.")
    for leak in (find_leaks(small, large), find_leaks(large, small)):
        assert (leak.first, leak.second, leak.num_identical) == ("large", "small", 1)


def test_repeats_count_all_but_the_first() -> None:
    repeats = find_repeats(split("a", LONG, "!", LONG, LONG.replace("old", "odd"), "?", "!"))
    assert (repeats.num_identical, repeats.num_near) == (2, 1)


def write(path: Path, *records: Record) -> Path:
    write_records(path, records)
    return path


def test_a_file_whose_rows_name_their_split_is_compared_with_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", record(LONG, split="train"), record(LONG, split="dev"))
    inspection = inspect_files([path])
    assert [part.name for part in inspection.splits] == ["train", "dev"]
    assert [leak.num_identical for leak in inspection.leaks] == [1]


def test_lines_that_are_no_records_are_counted_and_do_not_stop(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", record("Ann left.", ("Ann", "person")))
    path.write_text(path.read_text() + '{"text": ""}\nnot json\n')
    (part,) = inspect_files([path]).splits
    assert part.counts()["records"] == 1
    broken = part.faults()["line_is_no_record"]
    assert broken["count"] == 2
    assert broken["samples"][0]["text"] == f"{path}:2"


def test_the_command_prints_tables_and_writes_all_figures(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", record(LONG, ("Bo", "robot")), record("Short."))
    dev = write(tmp_path / "dev.jsonl", record(LONG))
    out = tmp_path / "figures.json"
    result = CliRunner().invoke(data_app, ["inspect", str(train), str(dev), "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "entity_not_in_text" in result.stdout
    figures = json.loads(out.read_text())
    assert figures["splits"][str(train)]["faults"]["entity_not_in_text"]["count"] == 1
    assert figures["splits"][str(dev)]["types"]["entities"] == {"person": 0, "city": 0}
    assert figures["leaks"][0]["identical"] == 1


def test_one_file_given_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", record(LONG))
    with pytest.raises(ValueError, match="every file must be given once"):
        inspect_files([path, path])
