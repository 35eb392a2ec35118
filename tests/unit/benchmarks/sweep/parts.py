"""Lines of metrics and results of a made-up sweep."""

from __future__ import annotations

from benchmarks.result import Result
from benchmarks.sweep.figures import Figures, figures_at, rows_of
from tests.unit.benchmarks.parts import result


def line(
    number: int, *, wall_s: float = 2.0, wait_s: float = 1.0, step: int = 1
) -> dict[str, float]:
    return {
        "step": step,
        "rollout/actors": number,
        "time/step_s": wall_s,
        "time/rollout_wait_s": wait_s,
        "time/backpressure_s": 0.25,
        "idle/learner": 0.5,
        "idle/samplers": 0.125,
        "staleness/mean": 1.0,
        "tokens/generated": 1000.0,
        "tokens/prompt": 400.0,
        "tokens/trained": 600.0,
    }


def at(number: int, *, wall_s: float, wait_s: float) -> Figures:
    return figures_at([line(number, wall_s=wall_s, wait_s=wait_s)], num_devices=number + 1)


def swept() -> Result:
    """1, 2 and 4 actors, of which the last two give 0.25 of their ideal gain."""
    run = {
        1: at(1, wall_s=4.0, wait_s=3.0),
        2: at(2, wall_s=2.0, wait_s=1.0),
        4: at(4, wall_s=1.6, wait_s=0.5),
    }
    return result(*rows_of([run]), bench="sweep", command="t2g bench sweep <config>")
