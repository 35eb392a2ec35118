"""Tokens a second of each side, as `t2g bench rollout` and `t2g bench learner` measure them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.planned.rates import measure_rates
from benchmarks.result import ResultRow
from benchmarks.selftest.outcome import Figure
from benchmarks.selftest.running import CheckFailed
from benchmarks.speed import learner, rollout
from t2g_ray.config import GrpoConfig
from t2g_ray.planning.cards import find_card
from t2g_ray.planning.speed.rates import unit_of

MOST_OF_PEAK = 1.05
"""A share of the peak above this is no speed but a wrong measurement."""


def peak_of(card: str) -> float | None:
    """The peak of a card by its name, for example "NVIDIA H100 80GB HBM3"; None: not known."""
    known = find_card(card)
    return known.flops_per_s or None if known else None


def rollout_speed(config: GrpoConfig, *, calls: int) -> list[Figure]:
    """Generated tokens a second of a rollout actor, and over vLLM called directly."""
    return _figures(rollout.run(config, runs=1, calls=calls))


def learner_speed(
    config: GrpoConfig, *, steps: int, card: str, completion_tokens: int | None
) -> list[Figure]:
    """Tokens a second and the share of the peak that one learner rank reaches.

    The peak is that of the card, where it is known, else that of a measured matrix product.
    """
    layout = "varlen" if config.learner.attention == "varlen" else "packed"
    rows = learner.run(
        config, runs=1, steps=steps, layouts=(layout,), completion_tokens=completion_tokens
    )
    values = {row.metric: row.median for row in rows}
    measured_peak = values["matmul_peak"] * 1e9
    peak = peak_of(card) or measured_peak
    mfu = values[f"mfu/{layout}"] * measured_peak / peak
    if not 0 < mfu <= MOST_OF_PEAK:
        raise CheckFailed(
            f"a learner must reach a share of the peak between 0 and 1, found {mfu:.3g} of "
            f"{peak / 1e12:.3g} TFLOP/s: the device was not waited for, or the peak is wrong"
        )
    return [
        *_figures([row for row in rows if not row.metric.startswith("mfu/")]),
        Figure("mfu", mfu, "share"),
        Figure("peak", peak / 1e12, "TFLOP/s"),
    ]


def rates(config: GrpoConfig) -> list[Figure]:
    """What `t2g plan --rates` reads: the rates of one engine, of one learner rank and of a sync."""
    figures = measure_rates(config).figures()
    return [Figure(name, value, unit_of(name)) for name, value in figures.items()]


def _figures(rows: Sequence[ResultRow]) -> list[Figure]:
    return [Figure(row.metric, row.median, row.unit) for row in rows]
