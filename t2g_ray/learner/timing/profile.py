"""Chosen steps of a rank -> a profile by torch in Chrome's trace format, and a memory snapshot.

    RUN/profile/learner-0.json.gz            ui.perfetto.dev, chrome://tracing
    RUN/profile/learner-0.memory.pickle      pytorch.org/memory_viz, on a GPU only

Invariant: what is computed is the same with and without; a step outside the range costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from t2g_ray.run.timing.profiled import Profiled

_MOST_ALLOCATIONS = 200_000


class StepProfiler:
    """Records the steps of one rank; `None`: nothing."""

    def __init__(self, wanted: Profiled | None, name: str, device: torch.device) -> None:
        self._wanted, self._name, self._device = wanted, name, device
        self._profile: Any = None

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """The block is this step; the last one of the range writes the files."""
        wanted = self._wanted
        if wanted is None or not wanted.first <= number <= wanted.last:
            yield
            return
        if self._profile is None:
            self._start(wanted)
        with record_function(f"step {number}"):
            yield
        if number == wanted.last:
            self._write(wanted)

    def _start(self, wanted: Profiled) -> None:
        is_cuda = self._device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
        if is_cuda and wanted.has_memory:
            torch.cuda.memory._record_memory_history(max_entries=_MOST_ALLOCATIONS)
        self._profile = profile(activities=activities, profile_memory=wanted.has_memory)
        self._profile.start()

    def _write(self, wanted: Profiled) -> None:
        self._profile.stop()
        wanted.folder.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(wanted.folder / f"{self._name}.json.gz"))
        self._profile = None
        if self._device.type == "cuda" and wanted.has_memory:
            # Not yet run on a GPU.
            torch.cuda.memory._dump_snapshot(str(wanted.folder / f"{self._name}.memory.pickle"))
            torch.cuda.memory._record_memory_history(enabled=None)
