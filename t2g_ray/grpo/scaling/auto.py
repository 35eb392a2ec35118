"""Lines of metrics, one a step -> when a run should get one rollout actor more, or one less.

An actor is added where the learner waits so long that one more would give at least PAYS_FROM of
its ideal gain, and removed where samplers are held back so long that the last one gives less than
IDLE_BELOW of it. Invariant (no to and fro): what one rule brings about is not undone by the other,
because the last actor gives afterwards what the next one was promised before, and the two limits
lie a factor of two apart. Nor does chance bring it about: what pauses must be is shown by the steps
since the last change with little doubt (`usual_times`), so the more steps differ, the more of them
it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from t2g_ray.grpo.scaling.paying import (
    PAYS_FROM,
    StepTimes,
    share_of_last,
    share_of_next,
    usual_times,
)
from t2g_ray.run.scale_request import Bounds

FEWEST, MOST = 6, 24
"""Steps that a decision looks at."""
LEAST_PAUSE = 0.1
"""Of a step: shorter pauses are left as they are, because steps differ by as much by chance."""
IDLE_BELOW = PAYS_FROM / 2
"""An actor that gives less than this share of its ideal gain is one too many."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A new number of rollout actors, and why."""

    wanted: int
    reason: str


class AutoScale:
    """Decides for one run; knows only what the lines of its steps say."""

    def __init__(self, bounds: Bounds, *, max_staleness: int) -> None:
        self._bounds, self._is_overlapped = bounds, max_staleness > 0
        self._num_unlike = max_staleness + 2
        """First steps after a change, whose groups were begun with another number of actors."""
        self._number: int | None = None
        self._since_s = 0.0
        self._num_skipped = 0
        self._lines: deque[Mapping[str, float]] = deque(maxlen=MOST)

    def after_step(self, line: Mapping[str, float], num_rollouts: int) -> Decision | None:
        """What to do after this step, in which `num_rollouts` actors worked; None: nothing."""
        if num_rollouts != self._number:
            # The time between two changes begins here, and so does what is looked at.
            self._number, self._since_s, self._num_skipped = num_rollouts, line["time_s"], 0
            self._lines.clear()
        if num_rollouts < self._bounds.least:
            return Decision(self._bounds.least, f"at least {self._bounds.least} are asked for")
        if num_rollouts > self._bounds.most:
            return Decision(self._bounds.most, f"at most {self._bounds.most} are asked for")
        if self._num_skipped < self._num_unlike:
            self._num_skipped += 1
            return None
        self._lines.append(line)
        is_cooling = line["time_s"] - self._since_s < self._bounds.cool_down_s
        if is_cooling or len(self._lines) < FEWEST:
            return None
        return self._decide(usual_times(self._lines, is_overlapped=self._is_overlapped))

    def _decide(self, times: StepTimes) -> Decision | None:
        n = times.num_rollouts
        gain = share_of_next(times)
        enough_s = LEAST_PAUSE * times.step_s
        if n < self._bounds.most and gain >= PAYS_FROM and times.wait_s >= enough_s:
            waits = f"the learner waits {times.wait_s:.2f} s or more"
            reason = f"{waits} of a step of {times.step_s:.2f} s; one more gives {gain:.2f}"
            return Decision(n + 1, f"{reason} of its ideal gain")
        if n > self._bounds.least:
            use = share_of_last(times)
            if use < IDLE_BELOW and (times.held_s >= enough_s or not self._is_overlapped):
                held = f"samplers write {times.busy_s:.2f} s of a step of {times.step_s:.2f} s"
                return Decision(n - 1, f"{held}; the last one gives {use:.2f} of its ideal gain")
        return None
