"""Names of GPUs -> what each of them has. Data sheets; nothing here was measured."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One kind of GPU. Example: Card(name="L40S", memory_gib=44.5)."""

    name: str
    memory_gib: float | None
    """What the driver lets processes have, which is less than what is on the label; None: not
    known."""
    tflops: float = 0.0
    """1e12 operations a second of dense products in bfloat16 with sums in fp32 (a figure "with
    sparsity" is halved); 0: not known, as for a card that is given by its memory alone."""
    bandwidth: float = 0.0
    """Of its memory, GB/s."""
    link: float = 0.0
    """To the other GPUs of its node, each way, GB/s: NVLink where it has it, else PCIe."""
    host: float = 0.0
    """To the host's memory, each way, GB/s: PCIe."""
    source: str = ""
    """Where the figures are from."""

    @property
    def flops_per_s(self) -> float:
        """The peak."""
        return 1e12 * self.tflops

    @property
    def bytes_per_s(self) -> float:
        """Of its memory."""
        return 1e9 * self.bandwidth


_TABLE = """
T4        | 14.6  | 0    | 300  | 16  | 16 | data sheet of T4; it computes no bfloat16
A10       | 22.0  | 125  | 600  | 32  | 32 | data sheet of A10
A10G      | 22.0  | 70   | 600  | 32  | 32 | data sheet of A10G
L4        | 22.0  | 121  | 300  | 32  | 32 | data sheet of L4
RTX3090   | 23.5  | 71   | 936  | 32  | 32 | NVIDIA's paper on the GA102 architecture, appendix
RTX4090   | 23.5  | 165  | 1008 | 32  | 32 | NVIDIA's paper on the Ada architecture, appendix
RTX5090   | 31.3  | 210  | 1792 | 64  | 64 | NVIDIA's paper on the RTX Blackwell architecture
A40       | 44.4  | 150  | 696  | 32  | 32 | data sheet of A40
RTXA6000  | 47.4  | 155  | 768  | 32  | 32 | data sheet of RTX A6000
L40       | 44.4  | 181  | 864  | 32  | 32 | data sheet of L40
L40S      | 44.4  | 362  | 864  | 32  | 32 | data sheet of L40S
A100-40   | 39.4  | 312  | 1555 | 300 | 32 | data sheet of A100, SXM 40 GB
A100-80   | 79.2  | 312  | 2039 | 300 | 32 | data sheet of A100, SXM 80 GB
H20       | 95.0  | 148  | 4000 | 450 | 64 | product brief of H20
H100-PCIe | 79.1  | 756  | 2000 | 64  | 64 | data sheet of H100, PCIe
H100      | 79.1  | 989  | 3350 | 450 | 64 | data sheet of H100, SXM
H200      | 139.8 | 989  | 4800 | 450 | 64 | data sheet of H200, SXM
B200      | 178.3 | 2250 | 8000 | 900 | 64 | data sheet of DGX B200, an eighth of the system
"""


def _read(row: str) -> Card:
    name, *numbers, source = (field.strip() for field in row.split("|"))
    memory_gib, tflops, bandwidth, link, host = map(float, numbers)
    return Card(
        name=name,
        memory_gib=memory_gib,
        tflops=tflops,
        bandwidth=bandwidth,
        link=link,
        host=host,
        source=source,
    )


CARDS = {card.name: card for card in map(_read, _TABLE.strip().splitlines())}


def find_card(name: str) -> Card | None:
    """The card that a driver calls so, as "NVIDIA A100-SXM4-80GB"; None where the table has none.

    All words of a card's name must be in the given one, and the card with most of them counts: an
    A4000 is no A40, and an A100 whose memory is not said is none of the two.
    """
    given = _words(name)
    found = [card for card in CARDS.values() if _words(card.name) <= given]
    return max(found, key=lambda card: len(_words(card.name)), default=None)


def _words(name: str) -> set[str]:
    """Example: "NVIDIA GeForce RTX 4090" and "RTX4090" both have "rtx" and "4090"."""
    apart = re.sub(r"rtx(?=\w)", "rtx ", name.casefold())
    return {re.sub(r"^(\d+)gb?$", r"\1", word) for word in re.findall(r"[a-z0-9]+", apart)}
