"""Evaluations and the summary of a run -> the table and the cards at the top of its page."""

from __future__ import annotations

from t2g_ray.report.headline import Cell, cards, tables


def test_a_running_run_shows_its_first_and_newest_evaluation() -> None:
    evals = [
        {"step": 0, "split": "heldout", "f1/entities": 0.2},
        {"step": 5, "split": "train", "f1/entities": 0.9},
        {"step": 10, "split": "heldout", "f1/entities": 0.3},
    ]
    (table,) = tables({}, evals)
    assert table.columns == ("First, step 0", "Newest, step 10", "Change")
    assert table.rows == (
        ("Entity F1, exact", (Cell("20.0"), Cell("30.0"), Cell("+10.0", "", True))),
    )
    assert tables({}, []) == []
    assert tables({}, [{"step": 5, "split": "heldout", "loss": 0.5}]) == []


def test_the_table_shows_intervals_more_sft_and_unseen_names() -> None:
    before = {"f1/relations": 0.5, "interval": {"f1/relations": [0.45, 0.55]}}
    after = {"f1/relations": 0.4}
    summary = {
        "before": before,
        "after": after,
        "sft_continued": {"f1/relations": 0.45},
        "interval": {"f1/relations": [-0.15, -0.05]},
        "heldout_names": {"before": after, "after": before},
    }
    main, names = tables(summary, [])
    assert main.columns == ("Before GRPO", "More SFT instead", "After GRPO", "Change")
    assert main.rows[0][1] == (
        Cell("50.0", "45.0 to 55.0"),
        Cell("45.0"),
        Cell("40.0"),
        Cell("-10.0", "-15.0 to -5.0", False),
    )
    assert cards(main) == [("Relation F1, exact", *(main.rows[0][1][i] for i in (0, 2, 3)))]
    assert names.columns == ("Before GRPO", "After GRPO", "Change")
    assert names.rows[0][1][2] == Cell("+10.0", "", True)
