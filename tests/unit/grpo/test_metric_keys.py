"""The keys that every line of a GRPO run holds."""

from __future__ import annotations

from t2g_ray.grpo.metric_keys import METRIC_KEYS, metric_table, missing_keys


def test_missing_keys_are_named_in_the_order_of_the_table() -> None:
    line = dict.fromkeys(METRIC_KEYS, 0.0)
    assert missing_keys({**line, "reward/json": 1.0, "extra": 1.0}) == []
    del line["reward/<name>"], line["loss"], line["step"]
    assert missing_keys(line) == ["step", "reward/<name>", "loss"]


def test_every_contract_key_has_a_unit_a_meaning_and_a_row() -> None:
    assert all(key.unit and key.meaning for key in METRIC_KEYS.values())
    rows = metric_table().splitlines()
    assert len(rows) == len(METRIC_KEYS) + 2
    assert "| `time/sync_s` | s | time of the weight sync |" in rows
