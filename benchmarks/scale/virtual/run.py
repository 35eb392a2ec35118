"""A world -> a run of GRPO in it, of so many steps, with everything that its faults cost.

`GrpoLoop`, its ledger, books and guards are those of a real run. A death of an actor ends the run,
which is then resumed from its last checkpoint, as somebody who watches it would do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from benchmarks.scale.virtual.costs import World
from benchmarks.scale.virtual.records import ActorDied, Progress, StepTimes
from benchmarks.scale.virtual.stages import VirtualStages
from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.loop import GrpoLoop
from t2g_ray.prompts.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a simulated run came to; times are virtual but for `loop_s`."""

    steps: list[StepTimes]
    """Those that count: not the first, in which a run fills up, nor the last, for which it begins
    no more groups than they need."""
    wall_s: float
    """Of those, faults included."""
    busy_s: float
    """Of all engines, over the whole run."""
    num_deaths: int
    lost_steps: int
    """Steps that were trained and then trained again."""
    loop_s: float
    """Real seconds of this machine that the loop itself took for a group."""

    @property
    def step_s(self) -> float:
        """Mean seconds of a step."""
        return self.wall_s / len(self.steps)

    @property
    def tokens_per_s(self) -> float:
        """Tokens trained a second."""
        return sum(step.tokens for step in self.steps) / self.wall_s

    @property
    def learner_busy(self) -> float:
        """Share of the time in which the learner trained what was kept."""
        return sum(step.train_s for step in self.steps) / self.wall_s

    @property
    def mean_age(self) -> float:
        """Versions between what wrote a token and what it trained."""
        return fmean(step.mean_age for step in self.steps)


class _Scaler:
    """Implements `grpo.stages.Scaler`."""

    def __init__(self, stages: VirtualStages) -> None:
        self.step = stages.scale


def settings(
    *, steps: int, max_staleness: int, prompts_per_step: int, group_size: int
) -> GrpoConfig:
    """The configuration of a simulated run."""
    tree: Mapping[str, object] = {
        "run_dir": "simulated",
        "steps": steps,
        "max_staleness": max_staleness,
        "prompts_per_step": prompts_per_step,
        "group_size": group_size,
        "sampling": {"max_new_tokens": 4096},
    }
    return build_config(GrpoConfig, tree)


def simulate(
    config: GrpoConfig,
    world: World,
    *,
    checkpoint_every: int = 10,
    wanted: Callable[[int], int] | None = None,
) -> Outcome:
    """Run it to its last step, over as many deaths as there are.

    Raises ValueError for a run with too few steps to count any.
    """
    least = 3 * (config.max_staleness + 1)
    if config.steps < least:
        raise ValueError(
            f"a simulated run with max_staleness={config.max_staleness} needs {least} steps or "
            f"more, found {config.steps}; give more --steps"
        )
    started_s = time.process_time()
    progress, num_deaths, lost_steps = Progress(), 0, 0
    while not _is_at_the_end(config, world, progress, checkpoint_every, wanted):
        num_deaths += 1
        lost_steps += max(progress.steps, default=0) - progress.saved
        progress.steps = {n: one for n, one in progress.steps.items() if n <= progress.saved}
        progress.now_s += world.faults.restart_s
    loop_s = time.process_time() - started_s - progress.inside_s
    ended = [progress.steps[number] for number in range(1, config.steps + 1)]
    counted = ended[2 * config.max_staleness + 1 : config.steps - config.max_staleness]
    return Outcome(
        steps=counted[1:],
        wall_s=counted[-1].ended_s - counted[0].ended_s,
        busy_s=progress.busy_s,
        num_deaths=num_deaths,
        lost_steps=lost_steps,
        loop_s=loop_s / (config.steps + lost_steps) / config.prompts_per_step,
    )


def _is_at_the_end(
    config: GrpoConfig,
    world: World,
    progress: Progress,
    checkpoint_every: int,
    wanted: Callable[[int], int] | None,
) -> bool:
    """Run from the last checkpoint to the end, or to a death."""
    stages = VirtualStages(
        config, world, progress, checkpoint_every=checkpoint_every, wanted=wanted
    )
    try:
        stages.publish(progress.saved)
        GrpoLoop(
            config,
            groups=stages,
            trainer=stages,
            weights=stages,
            watcher=stages,
            ledger=Ledger.from_state(progress.ledger) if progress.ledger else Ledger(),
            scaler=_Scaler(stages),
            version=progress.saved,
        ).run()
    except ActorDied:
        return False
    finally:
        progress.busy_s = stages.busy_s
    return True
