"""Actors of a run without their work, in a module that loads at once."""

from __future__ import annotations

import os
from types import SimpleNamespace

import ray


class Light:
    """Any actor of a run, without its work."""

    def __init__(self, *arguments: object) -> None:
        self._number = next(iter(arguments), None)

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def start(self, address: str, port: int, spec: object) -> None:
        """Where ranks would meet."""

    def rehearse(self, prompt_tokens: int, new_tokens: int) -> None:
        """Where a rank would take the memory that it needs."""

    def device_memory(self) -> SimpleNamespace:
        """That of a CPU."""
        return SimpleNamespace(total=0, free=0, peak=0, held=0)

    def leave(self) -> None:
        """Where a rank would leave its device."""

    def come_back(self) -> None:
        """Where it would come back."""

    def sleep(self) -> None:
        """Where an engine would leave its device."""

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def sees(self) -> tuple[str, list[str]]:
        """CUDA_VISIBLE_DEVICES, and what Ray has given to this actor."""
        return os.environ["CUDA_VISIBLE_DEVICES"], [str(i) for i in ray.get_gpu_ids()]


class Broken(Light):
    """The second rank finds no GPU."""

    def start(self, address: str, port: int, spec: object) -> None:
        if self._number == 1:
            raise RuntimeError("CUDA error: no CUDA-capable device is detected")
