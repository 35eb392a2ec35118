"""Repeated measurements -> rows -> the JSON form of a result, and back.

Invariant: a row holds one finite value of each run, in order, and its median and ends are those of
these values, so that a spread is always shown and nobody can write a median of nothing. A result
says what was asked for (`settings`, and `config` as it was resolved), of which code (`commit`) and
when (`measured`, a time for each session), so that two results are only compared where they may be.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from t2g_ray.run.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = Path(__file__).parent / "published"
"""Results that the pages show."""
MEASURED_CODE = ("t2g_ray", "actors", "benchmarks", "configs")
"""Folders whose files decide a figure; baselines and published results lie in them too."""
UNCOMMITTED = "+changes"
"""End of the `commit` of a result of code that no commit holds."""

UNITS_IN_NAMES = (
    (r"_over_|ratio", "ratio"),
    (r"share|idle|efficiency|^mfu", "share"),
    (r"^tokens_per_s|tokens_per_s$|tokens_per_s/", "tokens/s"),
    (r"completions_per_s", "completions/s"),
    (r"requests_per_s", "requests/s"),
    (r"groups_per_s(/|$)", "groups/s"),
    (r"gb_per_s", "GB/s"),
    (r"(^|_)ms(_|/|$)", "ms"),
    (r"_s_per_step", "s"),
    (r"_mib(/|$)", "MiB"),
)
"""What a metric's name says of its unit; the first pattern that is found counts."""

Settings = Mapping[str, Any]
Side = TypeVar("Side")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One metric over all runs. Example: ResultRow(metric="actor_over_vllm", median=0.97, ...)."""

    metric: str
    median: float
    min: float
    max: float
    unit: str
    runs: int
    values: tuple[float, ...]
    """Of each run, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one command measured, in one session or in several."""

    bench: str
    command: str
    settings: Settings
    """Options and overrides by name, as given or by default; without those that change no figure,
    and without `runs`."""
    config: Settings
    """What the configuration sets, where it is not the default, by dotted key."""
    commit: str
    measured: tuple[str, ...]
    """When each session ended, ISO 8601 in UTC."""
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: tuple[ResultRow, ...]

    def row(self, metric: str) -> ResultRow | None:
        """The row of a metric, if it was measured."""
        return next((row for row in self.rows if row.metric == metric), None)


def make_row(metric: str, values: Sequence[float], unit: str) -> ResultRow:
    """The row of one value a run.

    Raises ValueError without values, with one that is not finite, or in another unit than the name
    of the metric says.
    """
    wanted = [named for pattern, named in UNITS_IN_NAMES if re.search(pattern, metric)]
    if wanted and unit != wanted[0]:
        raise ValueError(f"{metric} must be in {wanted[0]}, found {unit}")
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{metric} needs a finite value of each run, found {list(values)}")
    return ResultRow(
        metric=metric,
        median=float(median(values)),
        min=float(min(values)),
        max=float(max(values)),
        unit=unit,
        runs=len(values),
        values=tuple(float(value) for value in values),
    )


def ratio_row(metric: str, above: Sequence[float], below: Sequence[float]) -> ResultRow:
    """The row of above / below, run by run: turns of one round share what disturbs the machine.

    Raises ValueError where a side has nothing to compare with.
    """
    if min(below, default=0.0) <= 0:
        raise ValueError(f"{metric} needs values above 0 to divide by, found {list(below)}")
    return make_row(metric, [a / b for a, b in zip(above, below, strict=True)], "ratio")


def check_count(what: str, found: int, wanted: int) -> None:
    """Raises ValueError where less, or more, was done than is divided by the time."""
    if found != wanted:
        raise ValueError(f"{wanted} {what} must be measured, found {found}")


def turns(sides: Sequence[Side], number: int) -> list[Side]:
    """The sides in the order of round `number`: each is first equally often.

    Who goes first finds the machine cooler and its caches emptier than who goes second.
    """
    first = number % len(sides) if sides else 0
    return [*sides[first:], *sides[:first]]


def result_of(
    bench: str, rows: Sequence[ResultRow], *, command: str, settings: Settings, config: Settings
) -> Result:
    """The rows with everything that they depend on, measured now, here and with this code."""
    facts = describe_machine()
    return Result(
        bench=bench,
        command=command,
        settings=settings,
        config=config,
        commit=current_commit(),
        measured=(datetime.now(UTC).isoformat(timespec="seconds"),),
        machine=facts["machine"],
        versions=facts["versions"],
        rows=_distinct(rows),
    )


def current_commit() -> str:
    """This tree's commit, marked where measured code differs from it; "unknown" outside of git."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return "unknown"
    code = (*MEASURED_CODE, ":!benchmarks/baselines", ":!benchmarks/published")
    return commit + (UNCOMMITTED if _git("status", "--porcelain", "--", *code) else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def to_json(result: Result) -> dict[str, Any]:
    """The JSON form, as `t2g bench X --json` writes it."""
    return json.loads(json.dumps(asdict(result)))  # type: ignore[no-any-return]


def read_result(path: Path) -> Result:
    """What `to_json` wrote. Raises ValueError, with the path, for anything else."""
    try:
        return result_from(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a result of this version's `t2g bench`, found {error!r}; "
            "measure it again"
        ) from error


def result_from(content: Mapping[str, Any]) -> Result:
    """From the JSON form; raises ValueError where a row is not that of its values."""
    rows = []
    for fields in content["rows"]:
        row = make_row(fields["metric"], fields["values"], fields["unit"])
        made = asdict(row)
        unlike = [key for key in made if key != "values" and made[key] != fields[key]]
        if unlike:
            raise ValueError(f"{row.metric}: {', '.join(unlike)} must be that of its values")
        rows.append(row)
    told = ("bench", "command", "settings", "config", "commit", "machine", "versions")
    return Result(
        **{key: content[key] for key in told},
        measured=tuple(content["measured"]),
        rows=_distinct(rows),
    )


def _distinct(rows: Sequence[ResultRow]) -> tuple[ResultRow, ...]:
    names = [row.metric for row in rows]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a result needs rows, one of each metric, found {names}")
    return tuple(rows)


def place_of(facts: Mapping[str, Any]) -> str:
    """Machine and versions in one line of text."""
    return ", ".join(f"{k} {v}" for k, v in {**facts["machine"], **facts["versions"]}.items())


def write_section(page: Path, name: str, text: str) -> None:
    """Put the text between the marks of `name` in a page; the rest of the page stays.

    A page without the marks gets them at its end.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    before, _, rest = old.partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
