"""What a check found -> selftest.json, and back.

Invariant: a figure is finite, a check that did not pass says why, and what is read back equals what
was written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from t2g_ray.run.device.installed import Device

Verdict = Literal["passed", "failed", "skipped"]
ClaimStatus = Literal["confirmed", "refuted", "not touched"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. Example: Figure("tokens_per_s", 9800.0, "tokens/s")."""

    name: str
    value: float
    unit: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.name} must be a finite number, found {self.value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One check and its verdict."""

    name: str
    shows: str
    """What holds where it passes."""
    verdict: Verdict
    seconds: float
    found: str = ""
    """Why it did not pass; empty where it did."""
    advice: str = ""
    """What to do; empty where it passed."""
    figures: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        if (self.verdict == "passed") == bool(self.found):
            raise ValueError(
                f"{self.name} must have a reason if, and only if, it did not pass, found "
                f"{self.verdict} with {self.found!r}"
            )


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """A claim of docs/gpu.md after this run."""

    id: str
    says: str
    status: ClaimStatus
    by: str
    """The check that decides it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestReport:
    """A whole self-test: what selftest.json holds."""

    device: Device
    model: str
    minutes: float
    """The budget that was given."""
    measured: str
    """When it ended, ISO 8601 in UTC."""
    commit: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    checks: tuple[Outcome, ...]
    claims: tuple[ClaimOutcome, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.verdict == "failed")

    @property
    def verdict(self) -> str:
        """One line, such as "passed: 9 checks, 2 skipped"."""
        counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
        for check in self.checks:
            counts[check.verdict] += 1
        if self.failed:
            return f"failed: {', '.join(self.failed)}; {counts['passed']} checks passed"
        if not counts["passed"]:
            return f"nothing shown: all {counts['skipped']} checks skipped"
        return f"passed: {counts['passed']} checks, {counts['skipped']} skipped"


_FORM = TypeAdapter(SelfTestReport)


def to_json(report: SelfTestReport) -> str:
    """The text of selftest.json."""
    return _FORM.dump_json(report, indent=2).decode() + "\n"


def read_report(path: Path) -> SelfTestReport:
    """What `to_json` wrote. Raises ValueError, with the path, for anything else."""
    try:
        return _FORM.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path} must be the selftest.json of this version's `t2g selftest`, found "
            f"{error.error_count()} errors, the first: {error.errors()[0]['msg']}; run it again"
        ) from error
