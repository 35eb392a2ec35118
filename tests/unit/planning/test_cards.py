"""The table of GPUs."""

from __future__ import annotations

from t2g_ray.planning.cards import CARDS


def test_a_card_has_less_memory_for_processes_than_its_label_says_in_powers_of_ten() -> None:
    labels = {"T4": 16, "A10G": 24, "L4": 24, "L40S": 48, "A100-40": 40, "A100-80": 80, "H100": 80}
    for name, gigabytes in labels.items():
        assert 0.9 * gigabytes < CARDS[name].memory_gib < gigabytes
