"""Which steps are profiled, and an engine that is while its weights are those of such a step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """What to record. Example: Profiled(folder=Path("runs/a/profile"), first=3, last=5,
    has_memory=False)."""

    folder: Path
    first: int
    last: int
    """Steps are counted from 1, as in metrics.jsonl; both ends belong to it."""
    has_memory: bool


class Profiler(Protocol):
    """vLLM's LLMEngine."""

    def start_profile(self, profile_prefix: str | None = None) -> None:
        """Begin; the files that are written get this prefix."""

    def stop_profile(self) -> None:
        """Write the files."""


class EngineProfiler:
    """Step n is written by weights of version n - 1, at least where nothing is stale."""

    def __init__(self, engine: Profiler, wanted: Profiled | None, name: str) -> None:
        self._engine, self._wanted, self._name = engine, wanted, name
        self._is_on = False

    def at_version(self, version: int) -> None:
        """The engine has weights of this version from now on."""
        wanted = self._wanted
        if wanted is None:
            return
        if self._is_on and version >= wanted.last:
            self._is_on = False
            self._engine.stop_profile()
        elif not self._is_on and wanted.first - 1 <= version < wanted.last:
            self._is_on = True
            self._engine.start_profile(self._name)
