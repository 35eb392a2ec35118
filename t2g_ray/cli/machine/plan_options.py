"""Options of `t2g plan` that say what a step's time is planned from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from t2g_ray.config import StageConfig
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


def given_rates(settings: StageConfig, file: Path | None, *, measure: bool) -> Rates | None:
    """Read or measured, where asked for. Raises ValueError for both, and for a wrong file."""
    if measure and file:
        raise ValueError("give --measure or --rates, found both: each says what the machine does")
    if file is not None:
        from t2g_ray.planning.speed.rates import read_rates

        return read_rates(file)
    if measure:
        from benchmarks.planned.rates import measure_rates

        return measure_rates(settings)
    return None
