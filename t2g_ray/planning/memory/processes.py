"""What processes hold before they hold anything of a model: their libraries and those's threads.

Measured on Linux, Python 3.11, with the pinned packages, by `python -m benchmarks.planned.memory`;
what a process with a GPU holds is an estimate, which no machine with one has confirmed yet.
"""

from __future__ import annotations

from typing import Literal

from t2g_ray.planning.memory.held import MIB

Process = Literal[
    "learner", "learner on a card", "engine", "engine on a card", "reward", "run", "trainer", "Ray"
]

_ON_CPU: dict[Process, int] = {
    "learner": 620 * MIB,
    "learner on a card": 0,
    "engine": 900 * MIB,
    "engine on a card": 0,
    "reward": 160 * MIB,
    "run": 600 * MIB,
    "trainer": 1360 * MIB,
    "Ray": 730 * MIB,
}
_ON_CUDA: dict[Process, int] = {
    **_ON_CPU,
    "learner": 3000 * MIB,
    "learner on a card": 2048 * MIB,
    "engine": 4000 * MIB,
    "engine on a card": 1024 * MIB,
}


def base_bytes(process: Process, device: str) -> int:
    """Bytes of one process; of "Ray" those of all on a machine, of "trainer" those that Ray Train
    adds on the first one. "on a card": its context there, with what the allocator cannot use."""
    return (_ON_CUDA if device == "cuda" else _ON_CPU)[process]
