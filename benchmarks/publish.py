"""Results of `t2g bench X --json` -> baselines, and the published tables of docs/performance.md.

    python -m benchmarks.publish baseline runs/bench/*/rollout.json
    python -m benchmarks.publish results runs/bench/*.json
    python -m benchmarks.publish pages

`baseline` pools sessions of one commit that lie hours apart into `baselines/CASE.json`, so that a
slow or a fast hour does not become the measure. `results` keeps what is published in
`published/CASE.json`. Both write the pages again, as `pages` does. Invariant: every figure of a
generated section is in one of these files, and the verdict beside it is that of `--check`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.app import BENCHES, case_of, verdicts_of
from benchmarks.commands import bench_app
from benchmarks.limits import BASELINES, Case, differences, machine_differences, read_cases
from benchmarks.quality import ablation_table, ablations, seeds
from benchmarks.result import (
    PUBLISHED,
    ROOT,
    UNCOMMITTED,
    Result,
    ResultRow,
    make_row,
    read_result,
    to_json,
    write_section,
)
from benchmarks.tables import markdown, met, missed, span
from t2g_ray.run.folder import write_json

assert bench_app  # registers the commands, whose options name the cases

SECTION = "benchmarks.publish"
UNPUBLISHED = "None is published: code has changed that the figures of the last one depend on."
MIN_SESSIONS = 3
MIN_SPAN = timedelta(hours=2)
"""From the first session of a baseline to the last."""


def pooled(results: Sequence[Result]) -> Result:
    """Several sessions of the same command and code as one result, with the values of all runs.

    Raises ValueError where they differ in anything but time.
    """
    first, *others = sorted(results, key=lambda one: one.measured)
    for other in others:
        unlike = [
            *differences(first.settings, other.settings),
            *differences(first.config, other.config),
            *differences({"commit": first.commit}, {"commit": other.commit}),
            *machine_differences(first.machine, other.machine),
            *differences(first.versions, other.versions),
        ]
        if unlike or first.bench != other.bench:
            raise ValueError(f"sessions must differ in time only, found {'; '.join(unlike)}")
    times = [time for one in [first, *others] for time in one.measured]
    if len(set(times)) < len(times):
        raise ValueError(f"each session counts once, found {times}")
    rows = [_pooled_row(row, [first, *others]) for row in first.rows]
    told = {key: getattr(first, key) for key in ("bench", "command", "settings", "config")}
    return Result(
        **told,
        commit=first.commit,
        measured=tuple(times),
        machine=first.machine,
        versions=first.versions,
        rows=tuple(rows),
    )


def _pooled_row(row: ResultRow, results: Sequence[Result]) -> ResultRow:
    found = [result.row(row.metric) for result in results]
    same = [one for one in found if one is not None and one.unit == row.unit]
    if len(same) < len(found):
        raise ValueError(f"every session must have {row.metric} in {row.unit}")
    return make_row(row.metric, [value for one in same for value in one.values], row.unit)


def as_baseline(result: Result) -> Result:
    """The result, if it may be one.

    Raises ValueError for too few sessions, too little time between them, or code of no commit.
    """
    times = sorted(datetime.fromisoformat(time) for time in result.measured)
    span_of_all = times[-1] - times[0]
    if len(times) < MIN_SESSIONS or span_of_all < MIN_SPAN:
        raise ValueError(
            f"a baseline needs {MIN_SESSIONS} sessions over {MIN_SPAN}, found {len(times)} over "
            f"{span_of_all}; measure again later"
        )
    return of_commit(result)


def of_commit(result: Result) -> Result:
    """The result, if a commit holds the code that it was measured with; else ValueError."""
    if result.commit.endswith(UNCOMMITTED) or result.commit == "unknown":
        raise ValueError(
            f"what is kept must be of a commit, found {result.commit}; commit, then measure"
        )
    return result


def performance_section(folder: Path = PUBLISHED) -> str:
    """What is demanded and found, then every published table."""
    head = ["| case | metric | demanded | found | met |", "|---|---|---|---|---|"]
    lines, reasons, tables = [], [], []
    for case in read_cases().values():
        path = folder / f"{case.name}.json"
        if not path.is_file():
            lines += [_line(case, limit.metric, limit.words) for limit in case.limits]
            continue
        result = read_result(path)
        verdicts = verdicts_of(result, case)
        lines += [
            _line(case, v.limit.metric, v.limit.words, span(v.row) if v.row else "", met(v))
            for v in verdicts
        ]
        reasons += [f"- {case.name}: {line}" for line in missed(verdicts)]
        tables += [f"### {case.name}", "", markdown(result, verdicts), _sources(case), ""]
    commands = [f"    {case.command}" for case in read_cases().values()]
    why = ["Why it is not met:", "", *reasons, ""] if reasons else []
    return (
        "\n".join(["The cases:", "", *commands, "", *head, *lines, "", *why, *tables]).rstrip()
        + "\n"
    )


def _sources(case: Case) -> str:
    """The files that the figures of a case come from and are held against."""
    known = BASELINES / f"{case.name}.json"
    found = f"Figures: `benchmarks/published/{case.name}.json`."
    if not known.is_file():
        return f"{found} Baseline: none."
    older = read_result(known)
    when = f"{len(older.measured)} sessions from {min(older.measured)} to {max(older.measured)}"
    return (
        f"{found} Baseline: `benchmarks/baselines/{case.name}.json`, {when}, code {older.commit}."
    )


def _line(
    case: Case, metric: str, words: str, found: str = "not measured", is_met: str = "no"
) -> str:
    return f"| {case.name} | `{metric}` | {words} | {found or 'no such row'} | {is_met} |"


def sections() -> dict[Path, tuple[str, str]]:
    """Page -> the name of its section and what must stand there."""
    docs = ROOT / "docs"
    return {
        docs / "performance.md": (SECTION, performance_section()),
        docs / "ablations.md": (ablations.SECTION, _made("ablations", ablation_table.section)),
        docs / "results.md": (seeds.SECTION, _made("seeds", seeds.section)),
    }


def _made(name: str, section: Callable[[Mapping[str, Any]], str]) -> str:
    path = PUBLISHED / f"{name}.json"
    if not path.is_file():
        return f"{UNPUBLISHED}\n"
    return section(json.loads(path.read_text(encoding="utf-8")))


def write_pages() -> None:
    """Put every section into its page."""
    for page, (name, text) in sections().items():
        write_section(page, name, text)


def _case(result: Result) -> Case:
    case = case_of(result)
    if case is None:
        raise ValueError(
            f"only cases of baselines/limits.json can be kept, found {result.command!r}; add a "
            f"case, or run the command of one ({', '.join(sorted(BENCHES))} have some)"
        )
    return case


def keep(files: Iterable[Path], *, is_baseline: bool) -> list[Path]:
    """Write a file for each case among the results; returns their paths."""
    by_case: dict[str, list[Result]] = {}
    for path in files:
        result = read_result(path)
        by_case.setdefault(_case(result).name, []).append(result)
    kept = []
    for name, results in by_case.items():
        result = pooled(results)
        target = (BASELINES if is_baseline else PUBLISHED) / f"{name}.json"
        target.parent.mkdir(exist_ok=True)
        write_json(target, to_json(as_baseline(result) if is_baseline else of_commit(result)))
        kept.append(target)
    return kept


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep results, and write the pages."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("baseline", "results", "pages"))
    parser.add_argument("files", type=Path, nargs="*", help="written by `t2g bench X --json FILE`")
    options = parser.parse_args(arguments)
    if (options.what == "pages") == bool(options.files):
        parser.error("files are needed for baseline and results, and for nothing else")
    try:  # boundary: what is refused is told in words
        kept = keep(options.files, is_baseline=options.what == "baseline")
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    for path in kept:
        print(path)
    write_pages()


if __name__ == "__main__":
    main()
