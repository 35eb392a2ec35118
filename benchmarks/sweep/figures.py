"""Lines of metrics at each number of rollout actors -> rows, and where the next actor stops paying.

The rule: one more actor stops paying after the first number at which the learner hardly waits for
groups, or whose successor gave less than PAYS_FROM of its ideal gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from benchmarks.result import ResultRow, make_row
from benchmarks.speed.loop import values_of
from t2g_ray.grpo.scaling.paying import PAYS_FROM
from t2g_ray.run.metrics import MetricsLine

HARDLY_WAITS = 0.02
"""Of a step: a learner that waits for less has no use for more groups."""

UNITS = {
    "tokens_per_s": "tokens/s",
    "tokens_per_s_per_device": "tokens/s",
    "trained_tokens_per_s": "tokens/s",
    "wall_s_per_step": "s",
    "rollout_wait_s": "s",
    "backpressure_s": "s",
    "learner_idle": "share",
    "samplers_idle": "share",
    "staleness": "versions",
    "efficiency": "share",
    "gain_share": "share",
}
"""Figure -> unit; a row is one figure at one number of actors, such as efficiency/4."""

Figures = dict[str, float]
"""Figure -> value, at one number of actors in one run."""


@dataclass(frozen=True, slots=True)
class Paying:
    """Up to which number rollout actors pay, and why not further."""

    number: int
    reason: str


def figures_at(lines: Sequence[MetricsLine], *, num_devices: int) -> Figures:
    """Means over the counted steps of one number. `num_devices` are those of the run with it.

    `tokens_per_s` counts what samplers wrote, `trained_tokens_per_s` prompts and what was trained,
    as throughput/tokens_per_s does.
    """
    walls = values_of(lines, "time/step_s")
    tokens_per_s = sum(values_of(lines, "tokens/generated")) / sum(walls)
    trained = sum(values_of(lines, "tokens/prompt")) + sum(values_of(lines, "tokens/trained"))
    return {
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_device": tokens_per_s / num_devices,
        "trained_tokens_per_s": trained / sum(walls),
        "wall_s_per_step": fmean(walls),
        "rollout_wait_s": fmean(values_of(lines, "time/rollout_wait_s")),
        "backpressure_s": fmean(values_of(lines, "time/backpressure_s")),
        "learner_idle": fmean(values_of(lines, "idle/learner")),
        "samplers_idle": fmean(values_of(lines, "idle/samplers")),
        "staleness": fmean(values_of(lines, "staleness/mean")),
    }


def against_ideal(run: Mapping[int, Figures]) -> dict[int, Figures]:
    """The figures of one run, by number rising, with what each number gives of its ideal.

    Ideally tokens a second grow as the number does: `efficiency` is the share of that since the
    first number, `gain_share` that of the gain since the number before.
    """
    first = min(run)
    found = {}
    for number, figures in run.items():
        ratio = figures["tokens_per_s"] / run[first]["tokens_per_s"]
        found[number] = {**figures, "efficiency": ratio * first / number}
    for before, number in pairwise(run):
        gain = run[number]["tokens_per_s"] / run[before]["tokens_per_s"] - 1
        found[number]["gain_share"] = gain / (number / before - 1)
    return found


def paying(run: Mapping[int, Figures]) -> Paying:
    """The rule of the module's head on the figures that `against_ideal` gives."""
    numbers = list(run)
    for number, following in [*pairwise(numbers), (numbers[-1], None)]:
        waits = run[number]["rollout_wait_s"] / run[number]["wall_s_per_step"]
        if waits < HARDLY_WAITS:
            return Paying(number, f"with {number} the learner waits {waits:.1%} of a step")
        if following is not None and (share := run[following]["gain_share"]) < PAYS_FROM:
            return Paying(number, f"{following} give {share:.2f} of their ideal gain")
    return Paying(numbers[-1], f"the learner still waits {waits:.1%} of a step: more may pay")


def rows_of(runs: Sequence[Mapping[int, Figures]]) -> list[ResultRow]:
    """A row for each figure and number, and the number up to which actors pay.

    Only numbers that every run came to have rows. Raises ValueError where there is none.
    """
    numbers = [number for number in runs[0] if all(number in run for run in runs)]
    if not numbers:
        raise ValueError(f"each run must measure a number of actors, found {[*map(list, runs)]}")
    full = [against_ideal({number: run[number] for number in numbers}) for run in runs]
    rows = [
        make_row(f"{figure}/{number}", [run[number][figure] for run in full], unit)
        for figure, unit in UNITS.items()
        for number in numbers
        if figure in full[0][number]
    ]
    return [*rows, make_row("pays_up_to", [paying(run).number for run in full], "actors")]


def medians_of(rows: Sequence[ResultRow]) -> dict[int, Figures]:
    """Rows -> number -> figure -> median, for a page and for the verdict on all runs."""
    found: dict[int, Figures] = {}
    for row in rows:
        figure, _, number = row.metric.partition("/")
        if number:
            found.setdefault(int(number), {})[figure] = row.median
    return found
