"""A run whose step takes as long as its two sides say: the times that a line of metrics tells."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class MadeUpRun:
    """Generating takes `generate_s` of one actor and is shared by all; `alone_s` is not shared."""

    generate_s: float
    train_s: float
    alone_s: float = 0.0
    max_staleness: int = 1
    noise: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    time_s: float = 0.0
    step: int = 0

    def line(self, num_rollouts: int) -> dict[str, float]:
        """One more step."""
        busy_s = self._about(self.alone_s + self.generate_s / num_rollouts)
        train_s = self._about(self.train_s)
        is_overlapped = self.max_staleness > 0
        step_s = max(busy_s, train_s) if is_overlapped else busy_s + train_s
        self.time_s += step_s
        self.step += 1
        return {
            "step": self.step,
            "time_s": self.time_s,
            "time/step_s": step_s,
            "time/rollout_wait_s": step_s - train_s,
            "time/backpressure_s": step_s - busy_s,
            "idle/samplers": 1 - busy_s / step_s,
            "rollout/actors": num_rollouts,
        }

    def _about(self, seconds: float) -> float:
        return seconds * self.chance.lognormvariate(0, self.noise)
