"""What a weight sync costs besides its seconds: messages, and the driver's memory at its peak.

Both are counted where they happen: a sync that sent tensors one by one, or took its bytes through
the driver, would show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate

from actors.cluster.handles import Actor, Handle, Parameters, Ref, Result

CLEAR_PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(slots=True)
class Traffic:
    """What the driver has sent since it was last cleared."""

    calls: int = 0
    references: int = 0
    """Objects of the store that these calls hand over."""

    @property
    def messages(self) -> int:
        """An object is put once, and fetched once by the one sampler."""
        return self.calls + 2 * self.references


@dataclass(frozen=True, kw_only=True)
class CountingHandle(Handle[Actor]):
    """An actor whose calls, and the objects that they hand over, are counted."""

    traffic: Traffic

    def call(
        self,
        method: Callable[Concatenate[Actor, Parameters], Result],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> Ref[Result]:
        self.traffic.calls += 1
        self.traffic.references += num_references([*arguments, *keywords.values()])
        return super().call(method, *arguments, **keywords)


def num_references(value: Any) -> int:
    """Objects of the store in a value, each as often as it is there."""
    if isinstance(value, Mapping):
        return num_references(list(value.values()))
    if isinstance(value, list | tuple):
        return sum(num_references(one) for one in value)
    return int(type(value).__name__ == "ObjectRef")


class PeakMemory:
    """The most memory of this process since `start`, above what it had then.

    What is taken and given back in between counts, such as a bucket that passes through.
    """

    is_kept = CLEAR_PEAK.exists()
    """Whether this system keeps a peak that can be begun anew. Nothing else shows such a bucket,
    so nothing else stands for it."""

    def start(self) -> None:
        """Begin anew."""
        if self.is_kept:
            CLEAR_PEAK.write_text("5")  # proc(5): resets VmHWM
            self._start = self._peak()

    def growth(self) -> int:
        """Bytes."""
        return self._peak() - self._start

    def _peak(self) -> int:
        found = re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(), flags=re.MULTILINE)
        if found is None:
            raise ValueError(f"{STATUS} must hold VmHWM, found none")
        return 1024 * int(found[1])


class CountingGroup:
    """A group of processes whose broadcasts are counted."""

    def __init__(self, group: Any) -> None:
        self._group, self.count = group, 0

    def broadcast(self, *arguments: Any) -> Any:
        self.count += 1
        return self._group.broadcast(*arguments)
