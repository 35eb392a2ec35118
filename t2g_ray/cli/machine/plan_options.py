"""Options of `t2g plan` that say what a step's time is planned from -> the plan with its time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from t2g_ray.config import StageConfig
    from t2g_ray.planning.plan import Plan
    from t2g_ray.planning.speed.rates import Rates

RatesFile = Annotated[
    Path | None,
    typer.Option("--rates", help="selftest.json of `t2g selftest`, with measured rates."),
]
Measure = Annotated[
    bool,
    typer.Option("--measure", help="Measure rates here first: starts the actors for a minute."),
]
CardName = Annotated[
    str | None, typer.Option("--card", help="GPU to plan the time for, such as H100 or L40S.")
]
Network = Annotated[
    float | None,
    typer.Option(min=0.01, help="Between nodes, GB/s each way; 12.5 (100 Gbit/s) if not given."),
]
PromptTokens = Annotated[
    float | None, typer.Option(min=1, help="Mean length of a prompt, in tokens.")
]
AnswerTokens = Annotated[
    float | None, typer.Option(min=1, help="Mean length of an answer, in tokens.")
]
LikeRun = Annotated[
    Path | None,
    typer.Option("--like", help="Folder of a run whose prompts and answers are as long."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOptions:
    """What was given of them."""

    rates: Path | None = None
    measure: bool = False
    card: str | None = None
    network: float | None = None
    prompt_tokens: float | None = None
    answer_tokens: float | None = None
    like: Path | None = None


def with_time(settings: StageConfig, plan: Plan, given: TimeOptions) -> Plan:
    """The plan with its time, where there is something to plan it from; else it is said what is
    missing. Raises ValueError for rates or a card that cannot be."""
    from t2g_ray.planning.timing import TimeNotKnown, Told, time_of

    told = Told(
        rates=_rates(settings, given),
        card=given.card,
        network=given.network,
        prompt_tokens=given.prompt_tokens,
        answer_tokens=given.answer_tokens,
        like=given.like,
    )
    try:
        speed = time_of(settings, plan.shape, plan.seats, plan.cluster, plan.memory.room, told)
    except TimeNotKnown as unknown:
        typer.echo(f"time: not known: {unknown}")
        return plan
    return replace(plan, speed=speed)


def _rates(settings: StageConfig, given: TimeOptions) -> Rates | None:
    if given.measure and given.rates:
        raise ValueError("give --measure or --rates, found both: each says what the machine does")
    if given.rates is not None:
        from t2g_ray.planning.speed.rates import read_rates

        return read_rates(given.rates)
    if given.measure:
        from benchmarks.planned.rates import measure_rates

        return measure_rates(settings)
    return None
