"""Results of the data commands on the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.cli.data_tables import MAX_TYPES, print_generation, print_inspection
from t2g_ray.data.inspect import Inspection, SplitRecords
from t2g_ray.graph import Graph
from t2g_ray.types import Record

STEP: dict[str, Any] = {
    "step": "graph",
    "in": 5,
    "out": 3,
    "rejected": {"no_graph": {"count": 2}},
}
COUNTS = {
    "records": 3,
    "entities": 4,
    "relations": 1,
    "records_without_entities": 0,
    "records_without_relations": 2,
}


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def shown(output: str) -> list[str]:
    return [" ".join(line.replace("\u2502", " ").split()) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("agreement", "last"), [({"mean": 0.75}, "mean agreement of samples: 0.750"), (None, None)]
)
def test_a_generation_shows_steps_with_reasons_records_and_agreement(
    agreement: dict[str, float] | None, last: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {"steps": [STEP], "records": COUNTS, "variants": {"name_swap": 1}}
    print_generation({**card, "agreement": agreement})
    lines = shown(capsys.readouterr().out)
    assert "graph 5 3 2 no graph" in lines
    assert "records without relations 2" in lines
    assert "name swap 1" in lines
    assert (lines[-1] if lines[-1].startswith("mean agreement") else None) == last


def test_rare_types_are_added_up_in_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    types = tuple(f"type {index:02}" for index in range(MAX_TYPES + 3))
    record = Record(text="x", entity_types=types, relation_types=(), graph=Graph((), ()))
    print_inspection(
        Inspection(splits=[SplitRecords(name="[train]", records=[record])], repeats=[], leaks=[])
    )
    lines = shown(capsys.readouterr().out)
    assert lines[0] == "[train]"
    assert "type 19 0" in lines and "type 20 0" not in lines
    assert "3 more 0" in lines
