"""The time of a plan -> a table of its parts, and sentences on what holds it up."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from t2g_ray.planning.parts import Speed
from t2g_ray.report.plots.time_bars import SIDES


def print_speed(speed: Speed) -> None:
    """The parts by side, and what follows."""
    table = Table("side", "part", "seconds", "bound by", title="time of an optimiser step")
    table.columns[2].justify = "right"
    for side, words in SIDES.items():
        parts = [part for part in speed.parts if part.side == side]
        for number, part in enumerate(parts):
            table.add_row(
                "" if number else words,
                escape(part.name),
                f"{part.seconds:.3g}",
                escape(part.bound),
                end_section=number == len(parts) - 1,
            )
    Console().print(table)
    for line in speed_lines(speed):
        print(line)


def speed_lines(speed: Speed) -> list[str]:
    """What a step takes and gives, which side is waited for, and what that rests on."""
    return [
        f"a step takes {speed.step_s:.3g} s: {speed.tokens_per_s:,.0f} tokens/s, of which "
        f"{speed.generated_tokens_per_s:,.0f} are of answers",
        *([_balance(speed)] if speed.rollouts else []),
        f"rates: {speed.rates}",
        *speed.assumptions,
    ]


def _balance(speed: Speed) -> str:
    slow, quick = ("samplers", "learner")
    if speed.bottleneck == "learner":
        slow, quick = quick, slow
    found = (
        f"bottleneck: the {slow}, {speed.imbalance:.3g} times as long as the {quick} "
        f"({speed.rollout_s:.3g} s of samplers, {speed.learner_s:.3g} s of learner)"
    )
    if speed.balanced_rollouts is None:
        return found
    count = speed.balanced_rollouts
    enough = "1 rollout actor balances it" if count == 1 else f"{count} rollout actors balance it"
    return f"{found}; {enough}, rollout.actors is {speed.rollouts}"
