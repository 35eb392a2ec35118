"""A command -> the most memory that each of its processes had resident, by the actor's name.

Read from Linux's /proc while the command runs. What processes share through Ray's object store is
left out: it is one memory, which each of them would count once more.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVERY_S = 0.1
_PROC = Path("/proc")
_KIB = re.compile(r"^(Rss\w+):\s+(\d+) kB", re.MULTILINE)


@dataclass(slots=True)
class Resident:
    """The processes of one command."""

    peaks: dict[int, int] = field(default_factory=dict)
    """Process id -> bytes."""
    titles: dict[int, set[str]] = field(default_factory=dict)
    """Process id -> all titles that it had: Ray writes what an actor does."""

    def look(self, root: int) -> None:
        """Note what the descendants of process `root` have now."""
        for process in _family(root):
            try:
                status = (_PROC / str(process) / "status").read_text()
                title = (_PROC / str(process) / "cmdline").read_text().replace("\0", " ")
            except (OSError, UnicodeDecodeError):
                continue  # it ended
            sizes = {name: 1024 * int(kib) for name, kib in _KIB.findall(status)}
            now = sizes.get("RssAnon", 0) + sizes.get("RssFile", 0)
            self.peaks[process] = max(now, self.peaks.get(process, 0))
            self.titles.setdefault(process, set()).add(title)

    def of(self, pattern: str) -> list[int]:
        """Peaks of the processes of which a title holds this pattern, largest first."""
        return sorted(
            (
                self.peaks[process]
                for process, titles in self.titles.items()
                if any(re.search(pattern, title) for title in titles)
            ),
            reverse=True,
        )


def watch(command: Sequence[str], *, limit_s: float) -> Resident:
    """Run the command to its end. Raises RuntimeError with its last words where it fails."""
    resident = Resident()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        end = time.monotonic() + limit_s
        while child.poll() is None and time.monotonic() < end:
            resident.look(child.pid)
            time.sleep(EVERY_S)
        if child.poll() is None:
            child.terminate()
        said = child.communicate()[0]
    if child.returncode:
        raise RuntimeError(
            f"a run must end by itself within {limit_s:g} s to be measured, found exit code "
            f"{child.returncode}: {said[-2000:]}"
        )
    return resident


def _family(root: int) -> Iterator[int]:
    parents = dict(_parents())
    known = {root}
    yield root
    while new := {child for child, parent in parents.items() if parent in known} - known:
        known |= new
        yield from new


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir(_PROC):
        if name.isdigit():
            try:
                stat = (_PROC / name / "stat").read_text()
            except OSError:
                continue  # it ended
            # The second field is the program's name in brackets, which may hold anything.
            yield int(name), int(stat.rpartition(")")[2].split()[1])


def memory_of(sizes: Mapping[str, int]) -> int:
    """Sum of parts, in bytes."""
    return sum(sizes.values())
