"""Configuration, shape, lengths and rates -> the step that they come to, and what holds it up.

Invariant: the plan is a pure function of its arguments. More rollout actors never make the
samplers' side slower where each has devices of its own, longer answers never make a step faster.
"""

from __future__ import annotations

from dataclasses import replace

from t2g_ray.config import GrpoConfig, SftConfig, StageConfig
from t2g_ray.planning.parts import Speed, TimePart
from t2g_ray.planning.shapes import BYTES, ModelShape
from t2g_ray.planning.speed.balance import balance
from t2g_ray.planning.speed.beside import (
    DRIVER_GROUP_S,
    DRIVER_S,
    SCORED_PER_S,
    checkpoint_part,
    evaluation_part,
    loss_part,
    sync_part,
    turns_part,
)
from t2g_ray.planning.speed.engine import (
    CardEngine,
    Engine,
    EngineLoad,
    MeasuredEngine,
    decode,
)
from t2g_ray.planning.speed.hardware import Hardware
from t2g_ray.planning.speed.learner import LearnerRanks, card_parts, measured_parts
from t2g_ray.planning.speed.lengths import Lengths
from t2g_ray.planning.speed.rates import EngineRates, Rates
from t2g_ray.planning.speed.work import StepWork, passes_of, step_work


def plan_speed(
    config: StageConfig, shape: ModelShape, lengths: Lengths, hardware: Hardware
) -> Speed:
    """The speed of a run of SFT or GRPO."""
    step = _Step(config, shape, lengths, hardware)
    if isinstance(config, GrpoConfig):
        return step.of_grpo(config)
    assert isinstance(config, SftConfig)
    return step.of_sft(config)


class _Step:
    """One step, side by side."""

    def __init__(
        self, config: StageConfig, shape: ModelShape, lengths: Lengths, hardware: Hardware
    ) -> None:
        self._shape, self._lengths, self._hardware = shape, lengths, hardware
        self._work: StepWork = step_work(config, shape, lengths)
        source = hardware.source
        self._scale = shape.parameters / source.parameters if isinstance(source, Rates) else 1.0
        self._learner_parts = self._parts_of_learner(config)

    def of_sft(self, config: SftConfig) -> Speed:
        parts = list(self._learner_parts)
        if config.eval.every:
            parts.append(loss_part(config, self._learner_parts))
        parts += checkpoint_part(config, self._shape)
        learner_s = sum(part.seconds for part in self._learner_parts)
        return self._speed(
            parts,
            step_s=sum(part.seconds for part in parts),
            rollout_s=0.0,
            learner_s=learner_s,
            rollouts=0,
            balanced=None,
            assumptions=(),
        )

    def of_grpo(self, config: GrpoConfig) -> Speed:
        parts, rollout_s = self._parts_of_rollout(config, config.rollout.actors)
        card = self._hardware.samplers_card
        sync = sync_part(
            config,
            self._shape,
            card or self._engine_rates(),
            scale=self._scale,
            network=self._hardware.sync_network,
        )
        aside = turns_part(config, self._shape, card)
        count = config.rollout.actors
        aside += evaluation_part(config, self._engine(config, count), self._load(config, count))
        aside += checkpoint_part(config, self._shape)
        driver = TimePart(
            "driver", DRIVER_S + DRIVER_GROUP_S * config.prompts_begun, "sync", "scheduling"
        )
        learner_s = sum(part.seconds for part in self._learner_parts)
        scoring = TimePart(
            "scoring",
            self._work.sequences / (SCORED_PER_S * config.reward.actors),
            "reward",
            "compute",
        )
        pause = sync.seconds * (0.5 if config.sync.transport == "store" else 1.0)
        if self._overlaps(config):
            wall = max(
                rollout_s + pause,
                learner_s + sync.seconds + driver.seconds,
                self._core_seconds(config, rollout_s, learner_s),
            )
        else:
            # Only the groups that finish last are scored while nothing else is done.
            last = scoring.seconds / self._work.groups
            wall = rollout_s + last + learner_s + sync.seconds + driver.seconds
        step_s = wall + sum(part.seconds for part in aside)
        balanced, why = balance(
            config, lambda count: self._parts_of_rollout(config, count)[1], learner_s
        )
        return self._speed(
            [*parts, scoring, *self._learner_parts, sync, driver, *aside],
            step_s=step_s,
            rollout_s=rollout_s,
            learner_s=learner_s,
            rollouts=config.rollout.actors,
            balanced=balanced,
            assumptions=why,
        )

    def _speed(
        self,
        parts: list[TimePart],
        *,
        step_s: float,
        rollout_s: float,
        learner_s: float,
        rollouts: int,
        balanced: int | None,
        assumptions: tuple[str, ...],
    ) -> Speed:
        source = self._hardware.source
        told = [self._lengths.source, *assumptions]
        if isinstance(source, Rates):
            if abs(self._scale - 1) > SAME_SIZE:
                told.append(
                    f"measured with a model of {source.parameters / 1e6:.4g} M parameters: times "
                    f"taken {self._scale:.3g} times as long; measure with the model itself"
                )
            rates = f"measured rates ({source.source})"
        else:
            told.append("shares of the card's peak and bandwidth as in docs/planning.md")
            cards = dict.fromkeys(
                card.source for card in (source, self._hardware.engine_card) if card is not None
            )
            rates = ", ".join(cards)
        return Speed(
            parts=tuple(part for part in parts if part.seconds > 0),
            step_s=step_s,
            tokens=self._work.tokens,
            answer_tokens=self._work.answer_tokens,
            rollout_s=rollout_s,
            learner_s=learner_s,
            rollouts=rollouts,
            balanced_rollouts=balanced,
            rates=rates,
            assumptions=tuple(told),
        )

    def _parts_of_learner(self, config: StageConfig) -> tuple[TimePart, ...]:
        source, passes = self._hardware.source, passes_of(config)
        if isinstance(source, Rates):
            parts = measured_parts(source, self._scale, config.learner.ranks, self._work, passes)
        else:
            ranks = LearnerRanks(
                settings=config.learner,
                shape=self._shape,
                ranks_of_node=self._hardware.ranks_of_node,
                network=self._hardware.network,
            )
            parts = card_parts(source, ranks, self._work, passes)
        threads = config.learner.ranks * config.learner.threads
        measured = source.learner_crowding if isinstance(source, Rates) else 1.0
        slower = self._hardware.crowding(threads, config.learner, measured)
        return tuple(replace(part, seconds=part.seconds * slower) for part in parts)

    def _parts_of_rollout(self, config: GrpoConfig, count: int) -> tuple[list[TimePart], float]:
        """What `count` rollout actors take, each for its share; and the sum."""
        engine, load = self._engine(config, count), self._load(config, count)
        written = decode(engine, load)
        read = engine.read(load.sequences / config.group_size * load.prompt, load.prompt)
        parts = [
            TimePart("prefill", read.seconds, "rollout", read.bound),
            TimePart("decode", written.seconds, "rollout", written.bound),
        ]
        return parts, sum(part.seconds for part in parts)

    def _engine(self, config: GrpoConfig, count: int) -> Engine:
        """One of `count` engines, whose threads share the cores."""
        card = self._hardware.samplers_card
        if card is None:
            rates, threads = self._engine_rates(), count * config.rollout.cpus
            slower = self._hardware.crowding(threads, config.learner, rates.crowding)
            return MeasuredEngine(rates, self._scale * slower)
        return CardEngine(
            card=card,
            shape=self._shape,
            number_bytes=BYTES[config.rollout.dtype],
            devices=config.rollout.tensor_parallel,
        )

    def _engine_rates(self) -> EngineRates:
        """Raises ValueError where the rates are of a learner alone."""
        source = self._hardware.source
        assert isinstance(source, Rates)
        if source.engine is None:
            raise ValueError(
                f"a plan of GRPO must have rates of an engine, found none in {source.source}; "
                "measure with a configuration of GRPO"
            )
        return source.engine

    def _load(self, config: GrpoConfig, count: int) -> EngineLoad:
        groups = config.prompts_begun / count
        if not config.max_staleness:
            # A group is written by one engine, and a step waits for the one with most of them.
            groups = float(-(-config.prompts_begun // count))
        room = self._hardware.cached_sequences or config.rollout.max_sequences
        return EngineLoad(
            sequences=groups * config.group_size,
            most=min(config.rollout.max_sequences, room),
            prompt=self._lengths.prompt,
            answer=self._lengths.answer,
            longest=self._lengths.longest,
            in_flight=config.max_staleness + 1,
        )

    def _overlaps(self, config: GrpoConfig) -> bool:
        """Whether both sides work at once, on devices of their own: a device that they share has
        no more to give to both than to one."""
        has_own = config.colocate == "off" or not config.learner.gpus
        return config.max_staleness > 0 and has_own

    def _core_seconds(self, config: GrpoConfig, rollout_s: float, learner_s: float) -> float:
        """What both sides take at once where their threads share the cores; 0 on GPUs."""
        cores, learner = self._hardware.cores, config.learner
        if learner.gpus or not cores:
            return 0.0
        busy = [
            rollout_s * min(cores, config.rollout.actors * config.rollout.cpus),
            learner_s * min(cores, learner.ranks * learner.threads),
        ]
        return sum(busy) / cores


SAME_SIZE = 0.02
"""Models whose parameters differ by less than this share count as one size."""
