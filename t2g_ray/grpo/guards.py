"""What a step reports -> nothing, or a LoopError that says what to look at.

Invariant: what must be finite is checked before weights are published or saved, so that the last
checkpoint is still sound when a run stops here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.stages import LoopError, Ready
from t2g_ray.types import TrainReport

MAX_EMPTY_BATCHES = 20
"""Batches in a row without any signal, after which going on is not worth the compute."""

PARITY_TOKENS = 100
"""Fewer tokens of a kind in a step wait for more in later steps, so that none decides alone."""


class _Difference:
    """Mean over tokens of several steps."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, mean: float, count: int, *, is_whole_step: bool) -> float:
        """The mean so far, which starts anew; 0 while there are too few tokens to judge."""
        self._sum, self._count = self._sum + mean * count, self._count + count
        if not is_whole_step and math.isfinite(self._sum) and self._count < PARITY_TOKENS:
            return 0.0
        result = self._sum / max(1, self._count)
        self._sum, self._count = 0.0, 0
        return result


class Guards:
    """The checks of one run, with the counts that they need."""

    def __init__(self, config: GrpoConfig) -> None:
        self._config = config
        self._current, self._older = _Difference(), _Difference()
        self._num_graded = self._num_grader_errors = 0

    def check_age(self, position: int, age: int) -> None:
        """`age`: versions between now and a taken group's oldest token, or its admission."""
        if age > self._config.max_staleness:
            raise LoopError(
                f"a trained group must be at most {self._config.max_staleness} versions old, "
                f"found {age} for prompt {position}"
            )

    def check_graders(self, taken: Sequence[Ready]) -> None:
        """Over the whole run, only a small share of the completions may have a failed grader."""
        flags = [ok for ready in taken for ok in ready.summary.is_valid]
        self._num_graded += len(flags)
        self._num_grader_errors += flags.count(False)
        limit = self._config.reward.max_error_rate
        if self._num_grader_errors > limit * max(self._num_graded, 100):
            raise LoopError(
                f"at most a share of {limit} of the completions may fail to be graded, found "
                f"{self._num_grader_errors} of {self._num_graded}; the reward actors' logs "
                "have the errors"
            )

    def check_signal(self, num_empty: int) -> None:
        """A step may begin with batches of no group to train on, but not `MAX_EMPTY_BATCHES`."""
        if num_empty >= MAX_EMPTY_BATCHES:
            raise LoopError(
                f"some group must have unequal rewards, found none in {num_empty} batches in "
                "a row; raise sampling.temperature or group_size, choose harder or easier "
                "prompts, or train longer with SFT first"
            )

    def check_finite(self, report: TrainReport, step: int) -> None:
        """Loss and gradient norm must be finite."""
        for name, value in (("loss", report.loss), ("grad_norm", report.grad_norm)):
            if not math.isfinite(value):
                raise LoopError(
                    f"loss and gradient norm must be finite, found {name}={value} at step "
                    f"{step}, whose weights were not published; lower "
                    "learner.optimizer.lr or max_grad_norm and resume from the last checkpoint"
                )

    def check_parity(self, report: TrainReport, step: int) -> None:
        """Both sides must agree on tokens written by the weights that the step started from; those
        of older weights may be as far away as a policy moves in so many steps.
        """
        num_current, num_tokens = report.num_current, report.num_tokens
        current = self._current.add(
            report.current_difference, num_current, is_whole_step=num_current == num_tokens
        )
        older = self._older.add(
            report.older_difference, num_tokens - num_current, is_whole_step=num_current == 0
        )
        algorithm = self._config.algorithm
        for found, tolerance, whose, more in (
            (current, self._config.parity_tolerance, "the same weights", ""),
            (
                older,
                algorithm.stale_parity_tolerance,
                "weights of earlier steps",
                "; or lower learner.optimizer.lr or max_staleness",
            ),
        ):
            is_close = found <= tolerance  # NaN is not
            if not is_close:
                raise LoopError(
                    f"sampler and learner must agree on the log-probs of tokens of {whose} to "
                    f"{tolerance} nats (mean), found {found:.3g} at step {step}; look at "
                    "sampling.temperature, the precisions of both sides, the weight sync, and "
                    f"engine arguments that reshape the distribution{more}"
                )
