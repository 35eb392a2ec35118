"""Which prompt comes next, and which were consumed.

A position numbers the endless stream of prompts; `PromptOrder` maps it to a record.
Invariant: every position is consumed exactly once, also over crashes and resumes: what was drawn
and not consumed is drawn again, lowest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Ledger:
    """Positions drawn and consumed. Not thread-safe: the loop owns it."""

    def __init__(self, *, watermark: int = 0, ahead: Iterable[int] = ()) -> None:
        """All positions below `watermark` and those in `ahead` are consumed."""
        self._watermark = watermark
        self._ahead = set(ahead)
        self._drawn: set[int] = set()
        self._next = watermark

    @property
    def num_consumed(self) -> int:
        """Positions consumed since the start of the run, resumes included."""
        return self._watermark + len(self._ahead)

    def draw(self, count: int) -> list[int]:
        """The next `count` positions that are neither drawn nor consumed, in order."""
        positions: list[int] = []
        while len(positions) < count:
            if self._next not in self._ahead:
                positions.append(self._next)
            self._next += 1
        self._drawn.update(positions)
        return positions

    def consume(self, positions: Iterable[int]) -> None:
        """Mark drawn positions as done. Raises ValueError for one that was not drawn."""
        for position in positions:
            if position not in self._drawn:
                raise ValueError(
                    f"a prompt must be drawn once and consumed once, found position {position} "
                    "consumed without being drawn"
                )
            self._drawn.remove(position)
            self._ahead.add(position)
        while self._watermark in self._ahead:
            self._ahead.remove(self._watermark)
            self._watermark += 1
        # What was consumed ahead, before a resume, may now lie below the watermark.
        self._next = max(self._next, self._watermark)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"watermark": self._watermark, "ahead": sorted(self._ahead)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ledger:
        """The ledger that `state` was taken from, with nothing drawn."""
        return cls(watermark=int(state["watermark"]), ahead=state["ahead"])
