"""The tables of the page on planning."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.cli.machine.plan_page import EXAMPLES, Example, main, page, section

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.title)
def test_every_example_fits_its_machines(example: Example) -> None:
    plan = example.plan()
    assert plan.fits
    assert plan.memory.room is not None
    assert plan.memory.room.sequences > 64


def test_a_table_has_a_row_for_each_kind_of_place_and_its_command() -> None:
    text = section(EXAMPLES[1])
    assert "    t2g plan configs/cluster_8x.yaml\n" in text
    assert "| 4 x GPU of rollout/0 to rollout/3 | 44.4 | 44.4 | rollout: KV cache" in text


def test_the_page_shows_what_the_command_writes(tmp_path: Path) -> None:
    assert page() in (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    main([str(tmp_path / "page.md")])
    assert page() in (tmp_path / "page.md").read_text(encoding="utf-8")
