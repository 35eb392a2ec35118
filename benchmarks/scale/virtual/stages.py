"""The stages of the loop on a virtual clock: the loop, its dealer and its books are the product's.

Engines write while the driver does other things; what they finished is taken on when the driver
comes to it, in batches, as `RayGroups` does. Everything that the driver does costs it time.
Invariant: the clock never goes back, and no stage looks at what is later than now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from random import Random
from typing import ParamSpec, TypeVar

from benchmarks.scale.virtual.costs import World
from benchmarks.scale.virtual.engine import Job
from benchmarks.scale.virtual.engines import Engines
from benchmarks.scale.virtual.records import (
    PROMPT,
    ActorDied,
    Progress,
    StepTimes,
    report_of,
    summary_of,
)
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.books import Stock, Surplus
from t2g_ray.grpo.dealing import Dealer
from t2g_ray.grpo.stages import Ready, TrainGroup
from t2g_ray.grpo.staleness import Due, choose
from t2g_ray.prompts.ledger import Ledger
from t2g_ray.run.stopping import RunStopped
from t2g_ray.types import Prompt, SyncReport, TrainReport

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _apart(method: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Count a stage's own time, so that what is left is the loop's."""

    @wraps(method)
    def counted(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        stages = arguments[0]
        assert isinstance(stages, VirtualStages)
        started_s = time.process_time()
        try:
            return method(*arguments, **keywords)
        finally:
            stages.progress.inside_s += time.process_time() - started_s

    return counted


class VirtualStages:
    """Implements Groups, Trainer, Weights, Watcher and Scaler of `grpo.stages`."""

    def __init__(
        self,
        config: GrpoConfig,
        world: World,
        progress: Progress,
        *,
        checkpoint_every: int = 10,
        wanted: Callable[[int], int] | None = None,
    ) -> None:
        """`wanted`: step -> the number of rollout actors that somebody asks for after it."""
        self.config, self.world, self.progress = config, world, progress
        self._every, self._wanted = checkpoint_every, wanted
        self._chance = Random(f"{world.seed} {progress.now_s}")
        self._engines = Engines(world, self._chance, progress.now_s)
        self._busy_before_s = progress.busy_s
        self.dealer = Dealer(config, world.actors)
        self._loaded_s = progress.now_s
        """When the last version is in all engines."""
        self._arrived: list[Job] = []
        self._ready: dict[int, Ready] = {}
        self._arrived_groups = self._arrived_tokens = 0
        self._train_s = 0.0
        mtbf_s = world.faults.mtbf_s / world.actors
        alive_s = self._chance.expovariate(1 / mtbf_s) if mtbf_s else float("inf")
        self._death_s = progress.now_s + alive_s

    # Groups

    @_apart
    def start(self, positions: Sequence[int], *, min_version: int) -> None:
        """Deal the prompts out; each share is a call."""
        prompts = (Prompt(index=p, token_ids=PROMPT) for p in positions)
        for number, share in enumerate(self.dealer.deal(prompts)):
            if not share:
                continue
            self._spend(self.world.driver.call_s)
            self._run_engines()
            for prompt in share:
                self._engines.add(number, self._job(prompt.index, min_version), self._now_s)

    def _job(self, position: int, min_version: int) -> Job:
        # Of its own: the answer to a prompt is as long whoever writes it, and after a resume.
        chance = Random(f"{self.world.seed} {position}")
        size = self.config.group_size
        lengths = tuple(self.world.lengths.draw(chance, size))
        return Job(position, lengths, min_version, size)

    @_apart
    def take(
        self, count: int, *, dues: Sequence[Due], should_stop: Callable[[], bool]
    ) -> list[Ready]:
        """Move the clock on until `choose` has enough."""
        while (chosen := choose(self._ready, count, dues)) is None:
            if should_stop():
                raise RunStopped("asked to stop")
            self._wait_for_arrivals()
        return [self._ready.pop(index) for index in chosen]

    def _wait_for_arrivals(self) -> None:
        self._run_engines()
        if not self._arrived:
            self._gather(float("inf"))
        self._accept()

    def _gather(self, until_s: float) -> None:
        """Wait for the next thing to happen, and a moment longer for more, but until then."""
        gather_s = max(0.02, self.world.gather_s_per_actor * self.dealer.num_used)
        self.progress.now_s = min(until_s, max(self._now_s, self._next_s()) + gather_s)
        self._run_engines()

    def _accept(self) -> None:
        jobs, self._arrived = self._arrived, []
        self._spend(self.world.driver.group_s * len(jobs))
        for job in jobs:
            self.dealer.close(job.index)
            summary = summary_of(job)
            self._arrived_groups += 1
            self._arrived_tokens += summary.generated_tokens
            self._ready[job.index] = Ready(summary, job.index)

    def end(self, positions: Sequence[int]) -> Surplus:
        """Raises ValueError: a run that gives groups up is not simulated."""
        raise ValueError("a simulated run must have sampling.over_sample=1")

    def stock(self) -> Stock:
        """As RayGroups.stock."""
        waiting = [ready.summary for ready in self._ready.values()]
        return Stock(
            arrived_groups=self._arrived_groups,
            arrived_tokens=self._arrived_tokens,
            waiting_groups=len(waiting),
            waiting_tokens=sum(summary.generated_tokens for summary in waiting),
        )

    # Trainer

    @_apart
    def step(self, groups: Sequence[TrainGroup], *, divisor: float) -> TrainReport:
        """Train for as long as the tokens take; what arrives meanwhile is taken on beside it."""
        num_tokens = sum(group.num_tokens for group in groups)
        self._train_s = self.world.step_s + self.world.train_s_per_token * num_tokens
        end_s = self._now_s + self._train_s
        while self._next_s() < end_s:
            self._gather(end_s)
            self._accept()
        self.progress.now_s = max(end_s, self._now_s)
        return report_of(num_tokens, self._train_s)

    # Weights

    @_apart
    def publish(self, version: int) -> SyncReport:
        """Tell every actor; a synchronous run waits for them, others for the version before."""
        started_s = self._now_s
        self.progress.now_s = max(self._now_s, self._loaded_s)
        self._spend(self.world.driver.sync_s * len(self._engines))
        arrives_s = self._now_s + self.world.engine.transfer_s
        self._engines.send(version, arrives_s)
        self._loaded_s = arrives_s + self.world.engine.load_s
        if self.config.max_staleness == 0:
            self.progress.now_s = self._loaded_s
        self._run_engines()
        return SyncReport(
            seconds=self._now_s - started_s, num_bytes=0, num_buckets=0, is_verified=False
        )

    # Watcher and Scaler

    def needs_samplers(self, step: int) -> bool:
        """No evaluation is simulated."""
        return False

    @_apart
    def after_step(self, line: Mapping[str, float], taken: Sequence[Ready], ledger: Ledger) -> None:
        """Note the step, and save the ledger where that is due."""
        driver = self.world.driver
        self._spend(driver.spans_s * len(self._engines) + driver.loop_s * len(taken))
        step = int(line["step"])
        self.progress.steps[step] = StepTimes(
            ended_s=self._now_s,
            train_s=self._train_s,
            tokens=sum(ready.summary.generated_tokens for ready in taken),
            mean_age=line["staleness/mean"],
            actors=self.dealer.num_used,
        )
        if step % self._every == 0:
            self.progress.ledger, self.progress.saved = ledger.state(), step

    @_apart
    def scale(self) -> None:
        """Let actors join, with the version that is newest, or leave once they have written all."""
        if self._wanted is None:
            return
        wanted = self._wanted(max(self.progress.steps))
        while len(self._engines) < wanted:
            self._engines.join(self._now_s)
        self.dealer.use_first(min(wanted, len(self._engines)))
        while len(self._engines) > wanted and not self.dealer.num_open(len(self._engines) - 1):
            self._engines.leave()

    # The clock

    @property
    def _now_s(self) -> float:
        return self.progress.now_s

    @property
    def busy_s(self) -> float:
        """Seconds in which an engine wrote, over all engines and runs so far."""
        return self._busy_before_s + self._engines.busy_s

    def _spend(self, seconds: float) -> None:
        self.progress.now_s += seconds

    def _next_s(self) -> float:
        """When there is something to do, which may be now."""
        if self._arrived:
            return self._now_s
        return min(self._engines.next_s(), self._death_s)

    def _run_engines(self) -> None:
        self._arrived += self._engines.run_until(self._now_s)
        if self._death_s <= self._now_s:
            raise ActorDied("a rollout actor must live, found one dead")
