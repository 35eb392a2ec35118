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

MAX_EMPTY_STEPS = 20
"""Steps in a row without any signal, after which going on is not worth the compute."""


class Guards:
    """The checks of one run, with the counts that they need."""

    def __init__(self, config: GrpoConfig) -> None:
        self._config = config
        self._num_empty_steps = 0
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

    def check_signal(self, num_groups: int) -> None:
        """Some steps may have no group to train on, but not `MAX_EMPTY_STEPS` in a row."""
        self._num_empty_steps = 0 if num_groups else self._num_empty_steps + 1
        if self._num_empty_steps >= MAX_EMPTY_STEPS:
            raise LoopError(
                f"some group must have unequal rewards, found none in {MAX_EMPTY_STEPS} steps in "
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
        """Both sides must agree on tokens written by the weights that the step started from."""
        tolerance = self._config.parity_tolerance
        is_close = report.logprob_difference <= tolerance  # NaN is not
        if not is_close:
            raise LoopError(
                "sampler and learner must agree on the log-probs of the same tokens to "
                f"{tolerance} nats (mean), found {report.logprob_difference:.3g} at step "
                f"{step}; look at sampling.temperature, the precisions of both sides, "
                "the weight sync, and engine arguments that reshape the distribution"
            )
