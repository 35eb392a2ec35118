"""Results on the terminal: each figure once, and text from data as it is."""

from __future__ import annotations

import pytest

from t2g_ray.cli.tables import print_evaluation, print_figures, print_graph
from t2g_ray.evaluation.evaluate import evaluate_texts
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.types import Record

GRAPH = Graph(
    (Entity(0, "[bold]Ann[/]", "person"), Entity(1, "Acme", "company")),
    (Relation("[bold]Ann[/]", "Acme", "works for"),),
)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def cells(output: str) -> list[list[str]]:
    """Rows of a table, without its frame."""
    rows = [line for line in output.splitlines() if line.startswith(("\u2502", "\u2503"))]
    return [[cell.strip() for cell in row.strip("\u2502\u2503").split("\u2502")] for row in rows]


def test_an_evaluation_shows_all_figures_and_the_most_frequent_type_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = Record(
        text="Ann, Bo and Acme.",
        entity_types=("person", "company"),
        relation_types=(),
        graph=Graph((Entity(0, "Ann", "person"), Entity(1, "Bo", "person")), ()),
    )
    found = Graph((Entity(0, "Ann", "person"), Entity(1, "Acme", "company")), ()).to_json()
    print_evaluation(evaluate_texts([record], [found], thinking=False), title="held out")
    output = capsys.readouterr().out
    rows = cells(output)
    # One of two found, one of two right.
    assert ["entities", "50.0", "50.0", "50.0"] in [row[:4] for row in rows]
    by_type = [
        row for row in rows if row[:1] == ["entities"] and len(row) == 6 and row[1].isalpha()
    ]
    assert [(row[1], row[5]) for row in by_type] == [("person", "2"), ("company", "0")]
    assert "1 records, valid JSON 100.0 (1 ok)" in output


def test_figures_have_four_decimals_and_counts_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_figures({"f1": 0.5, "records": 7})
    assert cells(capsys.readouterr().out)[1:] == [["f1", "0.5000"], ["records", "7"]]


def test_a_graph_goes_to_standard_error_and_its_text_is_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_graph(GRAPH)
    output = capsys.readouterr()
    assert output.out == ""
    assert cells(output.err)[1:] == [
        ["[bold]Ann[/]", "person", ""],
        ["Acme", "company", ""],
        ["[bold]Ann[/]", "works for", "Acme"],
    ]
