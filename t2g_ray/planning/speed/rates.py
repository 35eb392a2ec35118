"""Measured rates: in and out of selftest.json, and what they say of work of another size.

Invariant: rates are finite and above 0, and what was measured is not smoothed: between measured
numbers of sequences an engine's pass takes what the straight line between them says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

CHECK = "rates"
"""The check of `t2g selftest` whose figures these are."""
DECODE = "decode_tokens_per_s/"
ENGINE = ("prefill_tokens_per_s", "sync_s", "engine_crowding")
"""Figures of an engine, beside those of `DECODE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRates:
    """What one engine does in a second, and how long it takes to get new weights."""

    decode: tuple[tuple[float, float], ...]
    """(sequences written at once, tokens/s of all of them), fewest first."""
    prefill_tokens_per_s: float
    """Of prompts."""
    sync_s: float
    """Of a weight sync that is not verified."""
    crowding: float = 1.0
    """Threads of all engines over cores, at least 1, while they were measured."""

    def __post_init__(self) -> None:
        if not self.decode:
            raise ValueError("an engine's rates must hold tokens/s of one number of sequences")

    def position_s(self, sequences: float) -> float:
        """Seconds in which each of `sequences` grows by a token: linear between what was measured,
        and on from the last two; never less than for fewer sequences.
        """
        counts = [count for count, _ in self.decode]
        # Noise may have measured more sequences as the faster ones.
        seconds = accumulate((count / rate for count, rate in self.decode), max)
        points = list(zip(counts, seconds, strict=True))
        if len(points) == 1:
            # All that is known is one point: as if each sequence took its share of it.
            return points[0][1] * max(1.0, sequences / points[0][0])
        first, second = next(
            (pair for pair in pairwise(points) if sequences <= pair[1][0]), points[-2:]
        )
        slope = (second[1] - first[1]) / (second[0] - first[0])
        # A line through two noisy points may cross 0 before it reaches one sequence.
        least = points[0][1] * min(1.0, sequences / points[0][0])
        return max(least, first[1] + slope * (sequences - first[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one engine and one rank of a learner do in a second."""

    learner_flops_per_s: float
    """Of one rank, on the operations that its step needs (`work.py`)."""
    learner_fixed_s: float
    """Of a step beside those: optimiser, clipping, collectives."""
    learner_crowding: float = 1.0
    """Threads of all ranks over cores, at least 1, while they were measured."""
    parameters: float
    """Of the measured model."""
    prompt_tokens: float
    """Mean over the measured prompts."""
    answer_tokens: float
    """Mean over the measured answers."""
    longest_tokens: float
    """Of these."""
    engine: EngineRates | None = None
    """None: measured for SFT, which has none."""
    source: str = "measured"
    """Where they come from, in words."""

    def __post_init__(self) -> None:
        found = self.figures()
        fixed = found.pop("learner_fixed_s")
        if not (0 <= fixed < math.inf and all(0 < value < math.inf for value in found.values())):
            raise ValueError(f"measured rates must be finite and above 0, found {self.figures()}")

    def figures(self) -> dict[str, float]:
        """Name -> value, as the check's figures hold them."""
        engine = self.engine
        of_engine = (
            {}
            if engine is None
            else {
                **{f"{DECODE}{count:g}": rate for count, rate in engine.decode},
                "prefill_tokens_per_s": engine.prefill_tokens_per_s,
                "sync_s": engine.sync_s,
                "engine_crowding": engine.crowding,
            }
        )
        return {
            **of_engine,
            "learner_gflops_per_s": self.learner_flops_per_s / 1e9,
            "learner_fixed_s": self.learner_fixed_s,
            "learner_crowding": self.learner_crowding,
            "parameters": self.parameters,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "longest_tokens": self.longest_tokens,
        }


UNITS: Mapping[str, str] = {
    "prefill_tokens_per_s": "tokens/s",
    "learner_gflops_per_s": "GFLOP/s",
    "learner_fixed_s": "s",
    "sync_s": "s",
    "engine_crowding": "ratio",
    "learner_crowding": "ratio",
    "parameters": "count",
    "prompt_tokens": "tokens",
    "answer_tokens": "tokens",
    "longest_tokens": "tokens",
}
"""Of the figures; those of `decode` are tokens/s."""


def unit_of(figure: str) -> str:
    """The unit of one of `Rates.figures`."""
    return "tokens/s" if figure.startswith(DECODE) else UNITS[figure]


def rates_of_figures(figures: Mapping[str, float], source: str) -> Rates:
    """What `Rates.figures` gave. Raises ValueError where one is missing or wrong."""
    decode = sorted(
        (float(name.removeprefix(DECODE)), rate)
        for name, rate in figures.items()
        if name.startswith(DECODE)
    )
    needed = [name for name in UNITS if decode or name not in ENGINE]
    if missing := [name for name in needed if name not in figures]:
        raise ValueError(f"the rates of {source} must have {', '.join(missing)}")
    engine = None
    if decode:
        engine = EngineRates(
            decode=tuple(decode),
            prefill_tokens_per_s=figures["prefill_tokens_per_s"],
            sync_s=figures["sync_s"],
            crowding=figures["engine_crowding"],
        )
    return Rates(
        learner_flops_per_s=1e9 * figures["learner_gflops_per_s"],
        learner_fixed_s=figures["learner_fixed_s"],
        learner_crowding=figures["learner_crowding"],
        parameters=figures["parameters"],
        prompt_tokens=figures["prompt_tokens"],
        answer_tokens=figures["answer_tokens"],
        longest_tokens=figures["longest_tokens"],
        engine=engine,
        source=source,
    )


def read_rates(path: Path) -> Rates:
    """The rates in a selftest.json.

    Raises ValueError, with the path, for any other file, and where the check did not pass.
    """
    try:
        report: Any = json.loads(path.read_text(encoding="utf-8"))
        checks: Sequence[Any] = report["checks"]
        check = next((one for one in checks if one["name"] == CHECK), None)
        figures = {one["name"]: float(one["value"]) for one in check["figures"]} if check else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--rates must be the selftest.json of `t2g selftest`, found {path}: {error}"
        ) from error
    if not figures:
        found = f"{check['verdict']}: {check['found']}" if check else "no such check"
        raise ValueError(
            f"{path} must hold the figures of its check {CHECK!r}, found {found}; run "
            f"t2g selftest --only {CHECK}"
        )
    return rates_of_figures(figures, str(path))
