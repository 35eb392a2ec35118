"""The table of GPUs."""

from __future__ import annotations

import pytest

from t2g_ray.planning.cards import CARDS, find_card


def test_a_card_has_less_memory_for_processes_than_its_label_says_in_powers_of_ten() -> None:
    labels = {"T4": 16, "A10G": 24, "L4": 24, "L40S": 48, "A100-40": 40, "A100-80": 80, "H100": 80}
    for name, gigabytes in labels.items():
        assert 0.9 * gigabytes < CARDS[name].memory_gib < gigabytes


@pytest.mark.parametrize(
    ("driver_name", "card"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100-PCIE-40GB", "A100-40"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA RTX A6000", "RTXA6000"),
        ("NVIDIA RTX A4000", None),
        ("A100", None),
    ],
)
def test_a_card_is_found_by_the_whole_words_of_its_drivers_name(
    driver_name: str, card: str | None
) -> None:
    found = find_card(driver_name)
    assert (found.name if found else None) == card


def test_every_card_is_found_by_its_own_name_and_says_where_its_figures_are_from() -> None:
    for name, card in CARDS.items():
        assert find_card(name) is card
        assert card.source and min(card.bandwidth, card.link, card.host) > 0
