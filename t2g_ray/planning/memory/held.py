"""The moments of a step, and what one process holds in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MIB, GIB = 2**20, 2**30
Moment = Literal["starting", "computing", "updating", "handing over", "writing"]
"""starting      models are read
computing     the backward pass of the largest micro-batch
updating      gradients are reduced and weights changed
handing over  samplers get the new weights
writing       samplers write, and the learner waits or computes"""
MOMENTS: tuple[Moment, ...] = (
    "starting",
    "computing",
    "updating",
    "handing over",
    "writing",
)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes by the name of the part, on the device and beside it; on a CPU both are one memory."""

    device: Mapping[str, int] = field(default_factory=dict)
    host: Mapping[str, int] = field(default_factory=dict)

    @property
    def on_device(self) -> int:
        """Bytes of all parts there."""
        return sum(self.device.values())


Footprint = Mapping[Moment, Held]
"""What one process holds, whenever it holds it."""
