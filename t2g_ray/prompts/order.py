"""Seed and position -> the record that is read there.

Invariant: every epoch holds each record once, and the order is a pure function of the seed, so that
a resumed run needs no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)  # a key of the cache below
class PromptOrder:
    """The endless stream of prompts over `num_records` records: a new order every epoch."""

    num_records: int
    seed: int
    sizes: tuple[int, ...] | None = None
    """Sizes of the records. Where given, smaller ones come first; equal sizes are shuffled."""

    def __post_init__(self) -> None:
        if self.num_records < 1:
            raise ValueError(f"an order needs at least one record, found {self.num_records}")

    def record_index(self, position: int) -> int:
        """The record at this position (from 0), a pure function: a resume needs no state."""
        epoch, offset = divmod(position, self.num_records)
        return int(_epoch_order(self, epoch)[offset])


@lru_cache(maxsize=4)  # positions in flight span few epochs
def _epoch_order(order: PromptOrder, epoch: int) -> npt.NDArray[np.int64]:
    shuffled = np.random.default_rng((order.seed, epoch)).permutation(order.num_records)
    if order.sizes is None:
        return shuffled
    return shuffled[np.argsort(np.asarray(order.sizes)[shuffled], kind="stable")]
