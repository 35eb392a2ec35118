"""Names of GPUs -> what each of them has. Data sheets; nothing here was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One kind of GPU. Example: Card(name="L40S", memory_gib=44.5)."""

    name: str
    memory_gib: float
    """What the driver lets processes have, which is less than what is on the label."""


CARDS = {
    card.name: card
    for card in (
        Card(name="T4", memory_gib=14.6),
        Card(name="A10G", memory_gib=22.0),
        Card(name="L4", memory_gib=22.0),
        Card(name="RTX4090", memory_gib=23.5),
        Card(name="A100-40", memory_gib=39.4),
        Card(name="L40S", memory_gib=44.4),
        Card(name="A100-80", memory_gib=79.2),
        Card(name="H100", memory_gib=79.1),
        Card(name="H200", memory_gib=139.8),
        Card(name="B200", memory_gib=178.3),
    )
}
