"""The GRPO loop: the only place where order is decided.

    prompts --start--> samplers --> reward actors --take--> here --step--> learner
                          ^                                                  |
                          +---------------------- publish -------------------+

The loop sees Protocols, never actors, and numbers, never tokens: a group passes through here as
a summary and a handle.

Invariant (staleness): a group admitted under version v is trained by the step that leaves
version u with u - v <= max_staleness. Admission bounds how many groups exist, and every step
takes enough of the oldest that the rest still fit into the steps left to them, so the bound
holds however slow a group was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from t2g_ray.algorithm.advantages import has_signal, plan_advantages
from t2g_ray.algorithm.loss import loss_divisor
from t2g_ray.algorithm.micro_f1 import price_batch
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.books import Books, Surplus
from t2g_ray.grpo.guards import Guards
from t2g_ray.grpo.stages import (
    WAITING,
    Groups,
    Ready,
    Scaler,
    Trainer,
    TrainGroup,
    Watcher,
    Weights,
)
from t2g_ray.grpo.staleness import Due, dues_of
from t2g_ray.grpo.step_line import FinishedStep, step_line
from t2g_ray.prompts.ledger import Ledger
from t2g_ray.run.trace import Tracer
from t2g_ray.types import StepReport, TrainReport


class GrpoLoop:
    """Runs steps from `version`, reached in `elapsed_s`, to `config.steps`."""

    def __init__(
        self,
        config: GrpoConfig,
        *,
        groups: Groups,
        trainer: Trainer,
        weights: Weights,
        watcher: Watcher,
        ledger: Ledger,
        scaler: Scaler | None = None,
        tracer: Tracer | None = None,
        version: int = 0,
        elapsed_s: float = 0.0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config = config
        self.version = version
        self._groups = groups
        self._trainer = trainer
        self._weights = weights
        self._watcher = watcher
        self._scaler = scaler
        self._tracer = tracer or Tracer("loop")
        self._ledger = ledger
        self._should_stop = should_stop
        self._admitted: dict[int, int] = {}
        """Position -> version at admission, of every group not consumed yet."""
        self._guards = Guards(config)
        self._books = Books()
        self._started_s = time.time() - elapsed_s
        self._step_ended_s = time.time()

    def run(self) -> int:
        """Train until `config.steps`; returns the last version. Weights must be published.

        Raises RunStopped between two steps when a stop was asked for; the learner and the ledger
        are then at `version`.
        """
        self._step_ended_s = time.time()
        while self.version < self.config.steps:
            self._admit()
            taken, surplus, batch = self._batch_of_step()
            train = self._train(batch)
            self.version += 1
            sync = self._weights.publish(self.version)
            if not self._watcher.needs_samplers(self.version):
                self._admit()  # the samplers work while this step is logged
            report = StepReport(version=self.version, train=train, sync=sync)
            self._finish(taken, surplus, batch, report)
            if self._scaler is not None:
                self._scaler.step()
        return self.version

    def _admit(self) -> None:
        # Groups that could only be trained after the last step are never begun.
        config = self.config
        num_steps = min(config.max_staleness + 1, config.steps - self.version)
        self._start(num_steps * config.prompts_begun - len(self._admitted))

    def _start(self, count: int) -> None:
        positions = self._ledger.draw(count)
        if positions:
            self._admitted.update(dict.fromkeys(positions, self.version))
            self._groups.start(positions, min_version=self.version)

    def _batch_of_step(self) -> tuple[list[Ready], Surplus, list[TrainGroup]]:
        """The groups of a step, the surplus that it gave up, and what is trained of it.

        Every step is one of the optimiser: where no group can be trained, as many others join them.
        """
        taken, surplus = self._take_batch()
        batch, num_empty = self._plan(taken), 0
        while not batch:
            num_empty += 1
            self._guards.check_signal(num_empty)
            self._admit()
            more, given_up = self._take_batch()
            taken, surplus, batch = [*taken, *more], surplus + given_up, self._plan(more)
        # Consumed only now: after a stop during a `_take` above, the whole step is drawn again.
        self._ledger.consume([ready.summary.index for ready in taken])
        for ready in taken:
            if scores := ready.summary.graded(ready.summary.f1):
                self._ledger.note(ready.summary.index, fmean(scores))
        return taken, surplus, batch

    def _take_batch(self) -> tuple[list[Ready], Surplus]:
        """Groups of a batch, those without signal replaced; and the surplus that it gave up."""
        sampling, wanted = self.config.sampling, self.config.prompts_per_step
        taken = self._take(wanted)
        num_extra = sampling.extra_groups
        while num_missing := min(num_extra, wanted - sum(map(self._is_useful, taken))):
            self._start(num_missing)
            taken += self._take(num_missing)
            num_extra -= num_missing
        surplus = self._end_rest()
        priced = price_batch([ready.summary for ready in taken], self.config.reward_spec)
        pairs = zip(taken, priced, strict=True)
        return [replace(ready, summary=summary) for ready, summary in pairs], surplus

    def _is_useful(self, ready: Ready) -> bool:
        """Whether the group gives a gradient. Where groups without signal are replaced, its F1 must
        differ too, because shaping the reward can make rewards differ that have nothing to teach.
        """
        summary = ready.summary
        is_f1_asked = self.config.sampling.extra_groups > 0
        kinds = [summary.rewards, *([summary.f1] if is_f1_asked else [])]
        graded = [summary.graded(values) for values in kinds]
        return all(len(values) > 1 and has_signal(values) for values in graded)

    def _end_rest(self) -> Surplus:
        if self.config.sampling.over_sample == 1:
            return Surplus()
        rest = sorted(self._admitted)
        surplus = self._groups.end(rest)
        self._admitted.clear()
        self._ledger.give_back(rest)
        return surplus

    def _take(self, count: int) -> list[Ready]:
        with self._tracer.span(WAITING, step=self.version):
            taken = self._groups.take(count, dues=self._dues(count), should_stop=self._should_stop)
        for ready in taken:
            admitted = self._admitted.pop(ready.summary.index)
            oldest = min(admitted, ready.summary.min_version)
            self._guards.check_age(ready.summary.index, self.version - oldest)
        return taken

    def _dues(self, count: int) -> list[Due]:
        if self.config.sampling.over_sample > 1:
            # A group that is not taken ends with its step, but not time and again.
            overdue = frozenset(self._ledger.overdue() & self._admitted.keys())
            return [Due(overdue, min(len(overdue), count))]
        return dues_of(
            self._admitted,
            version=self.version,
            max_staleness=self.config.max_staleness,
            groups_per_step=self.config.prompts_per_step,
        )

    def _plan(self, taken: Sequence[Ready]) -> list[TrainGroup]:
        self._guards.check_graders(taken)
        summaries = [ready.summary for ready in taken]
        batch: list[TrainGroup] = []
        plans = plan_advantages(summaries, self.config.algorithm)
        for ready, advantages in zip(taken, plans, strict=True):
            pairs = zip(ready.summary.lengths, advantages, strict=True)
            lengths = tuple(length for length, advantage in pairs if advantage is not None)
            is_useful = not self.config.sampling.extra_groups or self._is_useful(ready)
            if lengths and is_useful:
                batch.append(TrainGroup(ready.summary.index, ready.handle, advantages, lengths))
        return batch

    def _train(self, batch: Sequence[TrainGroup]) -> TrainReport:
        lengths = [length for group in batch for length in group.lengths]
        max_new_tokens = self.config.sampling.max_new_tokens
        divisor = loss_divisor(lengths, self.config.algorithm, max_new_tokens)
        report = self._trainer.step(batch, divisor=divisor)
        self._guards.check_finite(report, self.version + 1)
        return report

    def _finish(
        self,
        taken: Sequence[Ready],
        surplus: Surplus,
        batch: Sequence[TrainGroup],
        report: StepReport,
    ) -> None:
        now = time.time()
        step = FinishedStep(
            summaries=[ready.summary for ready in taken],
            trained={group.index: group.lengths for group in batch},
            surplus=surplus,
            report=report,
            time_s=now - self._started_s,
            wall_s=now - self._step_ended_s,
        )
        arrived = [*step.summaries, *surplus.finished]
        self._books.close_step(arrived, step.trained, self._groups.stock())
        self._guards.check_parity(report.train, report.version)
        self._step_ended_s = now
        self._watcher.after_step(step_line(step, self.config), taken, self._ledger)
