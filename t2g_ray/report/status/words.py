"""RunStatus -> rows of (what, value) for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from t2g_ray.report.status.figures import Trend
from t2g_ray.report.status.status import RunStatus

Row = tuple[str, str]


def rows_of(status: RunStatus) -> list[Row]:
    """What is known, most important first; what is not known has no row."""
    return [row for row in _rows(status) if row[1]]


def _rows(status: RunStatus) -> Iterator[Row]:
    total = "?" if status.steps is None else str(status.steps)
    yield "state", f"{status.state}: {status.reason}"
    yield status.unit, f"{status.step} of {total}"
    yield "time", _times(status)
    yield "pace", _pace(status)
    for key, trend in status.trends.items():
        yield key, _trend(trend)
    yield "evaluation", _evaluation(status)
    if status.fleet is not None:
        fleet = status.fleet
        told = f"; {fleet.told}" if fleet.told else ""
        asked = "the run chooses" if fleet.asked is None else f"{fleet.asked} asked for"
        yield "rollout actors", f"{fleet.working} work, {asked}{told}"
    if "staleness/mean" in status.means:
        means = status.means
        yield (
            "staleness",
            f"{means['staleness/mean']:.2f} versions, oldest {means['staleness/max']:.1f}",
        )
    yield "bottleneck", status.bottleneck
    if status.checkpoint is not None:
        age_s = status.checkpoint.age_s
        age = "" if age_s is None else f", {duration(age_s)} ago"
        yield "checkpoint", f"step {status.checkpoint.step}{age}"
    yield "trouble", "\n".join(status.troubles)
    yield "last words", "\n".join(status.last_words)


def _times(status: RunStatus) -> str:
    told = [
        ("" if seconds is None else before + duration(seconds) + after)
        for before, seconds, after in (
            ("", status.elapsed_s, " so far"),
            ("about ", status.time_left_s, " left"),
            ("newest sign ", status.sign_s, " ago"),
        )
    ]
    return ", ".join(filter(None, told))


def _pace(status: RunStatus) -> str:
    pace = status.pace
    tokens = "" if pace.tokens_per_s is None else f"{pace.tokens_per_s:,.0f} tokens/s"
    steps = "" if pace.steps_per_hour is None else f"{pace.steps_per_hour:,.0f} steps an hour"
    return ", ".join(filter(None, [tokens, steps]))


def _trend(trend: Trend) -> str:
    change = "" if trend.before is None else f" ({trend.now - trend.before:+.3f})"
    return f"{trend.now:.3f}{change}"


def _evaluation(status: RunStatus) -> str:
    if status.evaluation is None:
        return ""
    scores = [f"{k} {v:.3f}" for k, v in status.evaluation.items() if isinstance(v, float)]
    return f"step {status.evaluation.get('step')}: {', '.join(scores)}"


def duration(seconds: float) -> str:
    """Example: 7384 -> "2 h 3 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
