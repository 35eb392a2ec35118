"""The table of ablations by hand, and variants that cannot be compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.quality.ablation_table import VariantResults, published, section, table
from benchmarks.quality.variants import DEFAULT, SFT

FOUND, MISSED = [1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]


def result(entities: float, by_record: list[list[int]], changes: list[str]) -> dict[str, Any]:
    return {
        "f1/entities": entities,
        "f1/relations": 0.5,
        "json_valid_rate": 1.0,
        "by_record": by_record,
        "wall_s": 60.4,
        "made_by": {
            "changes": changes,
            "steps": 9,
            "records": 2,
            "code": "abc",
            "machine": {"cores": 2},
            "versions": {"ray": "1"},
        },
    }


DEFAULTS = {0: result(0.5, [MISSED], []), 1: result(0.7, [MISSED], [])}


def read_back(results: VariantResults) -> dict[str, Any]:
    """What is published, as read from its file."""
    document = published(results, [], "python -m benchmarks.quality.ablations")
    return dict(json.loads(json.dumps(document)))


def test_the_table_has_means_over_seeds_and_paired_intervals_against_the_default() -> None:
    changed = {0: result(0.7, [FOUND], ["x=1"]), 1: result(0.7, [FOUND], ["x=1"])}
    document = read_back({DEFAULT: DEFAULTS, "a": changed, SFT: changed})
    assert table(document).splitlines()[2:] == [
        "| default |  | 0.550 | 0.500, 0.600 | 0.600 | 0.500 | 1.000 |  | 60 |",
        "| a | `x=1` | 0.600 | 0.600, 0.600 | 0.700 | 0.500 | 1.000 "
        "| +0.050 [+1.000, +1.000] | 60 |",
        "| sft_continued | SFT goes on as long | 0.600 | 0.600, 0.600 | 0.700 | 0.500 | 1.000 "
        "| +0.050 [+1.000, +1.000] | 60 |",
    ]
    shown = section(document)
    assert "Failed" not in shown
    assert "cores 2, ray 1" in shown and "code abc" in shown


@pytest.mark.parametrize("seeds", [[1], [0], [0, 2], [2], [0, 1, 2]], ids=str)
def test_a_variant_of_other_seeds_is_named_as_failed_and_not_compared(seeds: list[int]) -> None:
    variant = {seed: result(0.9, [FOUND], ["x=1"]) for seed in seeds}
    document = read_back({DEFAULT: DEFAULTS, "a": variant, "none": {}})
    assert list(document["variants"]) == [DEFAULT]
    assert document["failed"] == ["a: not all of seeds [0, 1]"]
    assert "- a: not all of seeds [0, 1]" in section(document)
