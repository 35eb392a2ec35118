"""Which prompt comes next, and which were consumed.

A position numbers the endless stream of prompts; `PromptOrder` maps it to a record.
Invariant: every position is consumed exactly once, also over crashes and resumes: what was drawn
and not consumed is drawn again. Draws are a function of the state that a checkpoint keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count as count_from
from itertools import islice
from typing import Any

MOST_POSTPONED = 2
"""How often a position may be given back before a step must wait for it."""
WINDOW = 4096
"""A curriculum looks this many prompts ahead, so a draw costs the same for any data set."""


class Curriculum:
    """Brings the records forward that the policy answers half right.

    A group teaches most where some completions are right and some are wrong. Records that were
    never answered count as half right. The order changes inside an epoch only: each epoch still
    has every record once.
    """

    def __init__(self, record_at: Callable[[int], int], num_records: int) -> None:
        """`record_at` maps a position to its record."""
        self._record_at, self._num_records = record_at, num_records
        self._scores: dict[int, tuple[float, int]] = {}
        """Record -> sum of scores, number of groups."""

    def note(self, position: int, score: float) -> None:
        """Note that a group of this prompt scored `score`, from 0 to 1."""
        record = self._record_at(position)
        total, number = self._scores.get(record, (0.0, 0))
        self._scores[record] = (total + score, number + 1)

    def pick(self, positions: Iterator[int], count: int) -> list[int]:
        """Up to `count` of the ascending positions, all of one epoch; at least one."""
        window = list(islice(positions, WINDOW))
        epoch = window[0] // self._num_records
        same = (position for position in window if position // self._num_records == epoch)
        return sorted(same, key=lambda position: (self._distance(position), position))[:count]

    def _distance(self, position: int) -> float:
        total, number = self._scores.get(self._record_at(position), (0.5, 1))
        return abs(total / number - 0.5)

    def state(self) -> list[list[float]]:
        """[record, sum of scores, number of groups] of every record that was answered."""
        return [[record, *score] for record, score in sorted(self._scores.items())]

    def restore(self, state: Iterable[Sequence[float]]) -> None:
        """Restore what `state` returned."""
        self._scores = {int(record): (total, int(num)) for record, total, num in state}


class Ledger:
    """Positions drawn and consumed. Not thread-safe: the loop owns it."""

    def __init__(
        self,
        *,
        watermark: int = 0,
        ahead: Iterable[int] = (),
        postponed: Mapping[int, int] | None = None,
        curriculum: Curriculum | None = None,
    ) -> None:
        """All positions below `watermark` and those in `ahead` are consumed; `postponed` says how
        often a position was given back.
        """
        self._watermark = watermark
        self._ahead = set(ahead)
        self._postponed = dict(postponed or {})
        self._curriculum = curriculum
        self._drawn: set[int] = set()
        self._first_open = watermark
        """No position below is open."""

    @property
    def num_consumed(self) -> int:
        """Positions consumed since the start of the run, resumes included."""
        return self._watermark + len(self._ahead)

    def draw(self, count: int) -> list[int]:
        """The next `count` positions that are neither drawn nor consumed.

        They come in order, or in that of the curriculum.
        """
        positions: list[int] = []
        while (missing := count - len(positions)) > 0:
            picked = self._pick(missing)
            self._drawn.update(picked)
            positions += picked
        return positions

    def _pick(self, count: int) -> list[int]:
        while self._is_taken(self._first_open):
            self._first_open += 1
        is_open = (p for p in count_from(self._first_open) if not self._is_taken(p))
        if self._curriculum is None:
            return list(islice(is_open, count))
        return self._curriculum.pick(is_open, count)

    def _is_taken(self, position: int) -> bool:
        return position in self._drawn or position in self._ahead

    def give_back(self, positions: Iterable[int]) -> None:
        """Return drawn positions whose groups were given up: they are drawn again."""
        for position in positions:
            self._take_back(position)
            self._first_open = min(self._first_open, position)
            self._postponed[position] = self._postponed.get(position, 0) + 1

    def overdue(self) -> set[int]:
        """The drawn positions that were given back MOST_POSTPONED times before."""
        return {p for p, n in self._postponed.items() if n >= MOST_POSTPONED and p in self._drawn}

    def consume(self, positions: Iterable[int]) -> None:
        """Mark drawn positions as done. Raises ValueError for one that was not drawn."""
        for position in positions:
            self._take_back(position)
            self._ahead.add(position)
            self._postponed.pop(position, None)
        while self._watermark in self._ahead:
            self._ahead.remove(self._watermark)
            self._watermark += 1
            self._first_open = max(self._first_open, self._watermark)

    def _take_back(self, position: int) -> None:
        if position not in self._drawn:
            raise ValueError(
                f"a prompt must be drawn once and consumed once, found position {position} "
                "consumed without being drawn"
            )
        self._drawn.remove(position)

    def note(self, position: int, score: float) -> None:
        """Tell the curriculum, if there is one, how a group scored, from 0 to 1."""
        if self._curriculum is not None:
            self._curriculum.note(position, score)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        state: dict[str, Any] = {"watermark": self._watermark, "ahead": sorted(self._ahead)}
        if self._postponed:
            state["postponed"] = sorted(self._postponed.items())
        if self._curriculum is not None:
            state["scores"] = self._curriculum.state()
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any], curriculum: Curriculum | None = None) -> Ledger:
        """The ledger that `state` was taken from, with nothing drawn."""
        if curriculum is not None:
            curriculum.restore(state.get("scores", ()))
        return cls(
            watermark=int(state["watermark"]),
            ahead=state["ahead"],
            postponed=dict(state.get("postponed", ())),
            curriculum=curriculum,
        )
