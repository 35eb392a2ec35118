"""A plan's seats and what is known of rates and lengths -> its time.

Cards are those of the machines on which learner and engines sit, unless measured rates or a name
are given. Actors on CPUs have no table: they are planned from measured rates alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from t2g_ray.config import SftConfig, StageConfig
from t2g_ray.planning.cards import CARDS, Card, find_card
from t2g_ray.planning.cluster import Cluster
from t2g_ray.planning.parts import KvRoom, Seat, Speed
from t2g_ray.planning.plan import Plan
from t2g_ray.planning.shapes import ModelShape
from t2g_ray.planning.shares import NETWORK
from t2g_ray.planning.speed.hardware import Hardware
from t2g_ray.planning.speed.lengths import Lengths, choose_lengths, lengths_of_run
from t2g_ray.planning.speed.plan import plan_speed
from t2g_ray.planning.speed.rates import Rates


class TimeNotKnown(Exception):
    """There is nothing to plan the time from; the text says what to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a user says of rates and lengths; None: nothing."""

    rates: Rates | None = None
    card: str | None = None
    network: float | None = None
    """Between nodes, each way, GB/s."""
    prompt_tokens: float | None = None
    answer_tokens: float | None = None
    like: Path | None = None
    """Folder of a run whose prompts and answers are as long."""


def with_time(config: StageConfig, plan: Plan, told: Told) -> Plan:
    """The plan of this configuration with its time. Raises as `time_of` does."""
    speed = time_of(config, plan.shape, plan.seats, plan.cluster, plan.memory.room, told)
    return replace(plan, speed=speed)


def time_of(
    config: StageConfig,
    shape: ModelShape,
    seats: tuple[Seat, ...],
    cluster: Cluster,
    room: KvRoom | None,
    told: Told,
) -> Speed:
    """The time of a step. Raises TimeNotKnown where neither a card nor rates are known, and
    ValueError for rates or a card that cannot be."""
    lengths = _lengths(config, told)
    hardware = Hardware(
        source=told.rates or _card("learner", seats, cluster, told),
        engine_card=_engine_card(config, seats, cluster, told),
        is_one_node=len({s.machine for s in seats if s.role in ("learner", "rollout")}) == 1,
        network=told.network or NETWORK,
        ranks_of_node=max(Counter(s.machine for s in seats if s.role == "learner").values()),
        cores=_cores(config, seats, cluster),
        cached_sequences=None if room is None else _cached(room, lengths),
    )
    return plan_speed(config, shape, lengths, hardware)


def _lengths(config: StageConfig, told: Told) -> Lengths:
    like = None
    if told.like is not None:
        size = config.batch_size if isinstance(config, SftConfig) else 1
        like = lengths_of_run(told.like, batch_size=size)
    elif told.rates is not None:
        like = Lengths(
            prompt=told.rates.prompt_tokens,
            answer=told.rates.answer_tokens,
            longest=told.rates.longest_tokens,
            source="prompts and answers as long as those that rates were measured with",
        )
    return choose_lengths(config, prompt=told.prompt_tokens, answer=told.answer_tokens, like=like)


def _engine_card(
    config: StageConfig, seats: tuple[Seat, ...], cluster: Cluster, told: Told
) -> Card | None:
    if told.rates is not None or isinstance(config, SftConfig):
        return None
    return _card("rollout", seats, cluster, told)


def _card(role: str, seats: tuple[Seat, ...], cluster: Cluster, told: Told) -> Card:
    """The slowest card that actors of this role sit on."""
    if told.card is not None:
        card = find_card(told.card)
        if card is None:
            raise ValueError(
                f"--card must be one of {', '.join(CARDS)}, found {told.card!r}; give one of "
                "them, or --rates of a machine with it"
            )
        return card
    cards = [
        cluster.machines[seat.machine].cards[number]
        for seat in seats
        if seat.role == role
        for number in seat.devices
    ]
    if not cards:
        raise TimeNotKnown(
            "actors on CPUs are planned from measured rates: give --measure, which takes about a "
            "minute here, or --rates with the selftest.json of `t2g selftest --only rates`"
        )
    slowest = min(cards, key=lambda card: card.tflops)
    if not slowest.tflops:
        raise TimeNotKnown(
            f"the table has no speed of {slowest.name}: give --card with one of "
            f"{', '.join(CARDS)}, or measured --rates"
        )
    return slowest


def _cores(config: StageConfig, seats: tuple[Seat, ...], cluster: Cluster) -> float | None:
    """Of all machines with an actor of the learner or the engines; None where they have GPUs."""
    if config.learner.gpus:
        return None
    found = {seat.machine for seat in seats if seat.role in ("learner", "rollout")}
    cores = [cluster.machines[machine].cpus for machine in found]
    return sum(number for number in cores if number) if all(cores) else None


def _cached(room: KvRoom, lengths: Lengths) -> int:
    """Sequences of the mean length that fit into the cache."""
    tokens = lengths.prompt + lengths.answer
    return max(1, int(room.sequences * room.sequence_tokens / tokens))
