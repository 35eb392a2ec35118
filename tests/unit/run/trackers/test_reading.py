"""Growing files -> whole steps in order."""

from __future__ import annotations

import math
from pathlib import Path

from t2g_ray.run.trackers.reading import RunReader
from tests.unit.run.trackers.parts import Writer


def test_a_step_comes_when_a_later_one_began_with_all_that_was_written_about_it(
    tmp_path: Path,
) -> None:
    writer = Writer(tmp_path)
    reader = RunReader(writer.run)
    assert reader.read(is_over=False) == []
    writer.evaluation(0, 0.5)
    assert reader.read(is_over=False) == []
    writer.step(1)
    (before,) = reader.read(is_over=False)
    assert (before.step, before.numbers) == (0, {"eval/heldout/f1/entities": 0.5})
    writer.evaluation(1, 0.75)
    assert reader.read(is_over=False) == []
    writer.step(2)
    (first,) = reader.read(is_over=False)
    assert first.numbers == {
        "step": 1.0,
        "policy_version": 1.0,
        "loss": 0.25,
        "eval/heldout/f1/entities": 0.75,
    }
    assert [row[1] for row in first.rows] == ["train", "heldout", "heldout"]
    assert [record.step for record in reader.read(is_over=True)] == [2]
    assert reader.read(is_over=True) == []


def test_what_was_not_finite_is_nan_and_a_row_has_its_graphs_as_text(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.step(1, kl=None)
    (record,) = RunReader(writer.run).read(is_over=True)
    assert math.isnan(record.numbers["kl"])
    gold = '{"entities": ["Zoë | *b*"]}'
    assert record.rows == [
        (1, "train", 0, "Zoë lives.", '{"entities": [', gold, None, 0.25),
    ]


def test_half_a_line_is_left_until_it_is_whole(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    reader = RunReader(writer.run)
    writer.step(1)
    line = b'{"step": 2, "loss": 0.5}\n'
    with writer.run.metrics.open("ab") as file:
        file.write(line[:9])
        file.flush()
        assert reader.read(is_over=False) == []
        file.write(line[9:])
    (first,) = reader.read(is_over=False)
    assert first.step == 1
    assert [record.numbers["loss"] for record in reader.read(is_over=True)] == [0.5]
