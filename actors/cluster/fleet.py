"""The rollout actors of a run, in order of their numbers.

The one owner of the list: groups, weights and transports look here whenever they need it, so nobody
has to be told of a change. Invariant: actors join at the end and leave from the end, so a number
means the same actor for as long as that lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.cluster.handles import Handle
from actors.workers.rollout import RolloutActor


class Fleet:
    """Handles of the rollout actors."""

    def __init__(self, handles: Iterable[Handle[RolloutActor]] = ()) -> None:
        self._handles = list(handles)

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[Handle[RolloutActor]]:
        return iter(self._handles)

    def __getitem__(self, number: int) -> Handle[RolloutActor]:
        return self._handles[number]

    def add(self, handle: Handle[RolloutActor]) -> None:
        """Let an actor join; its number is the length so far."""
        self._handles.append(handle)

    def remove_last(self) -> Handle[RolloutActor]:
        """Let the last actor leave; the caller must end it."""
        return self._handles.pop()
