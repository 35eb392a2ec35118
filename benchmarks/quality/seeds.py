"""The demo over several seeds, beside SFT continued for the same wall-clock -> a table.

    python -m benchmarks.quality.seeds --seeds 0 1 2 --out runs/seeds --table docs/results.md

Each seed runs `t2g demo`, then goes on with SFT from the same policy on the same records for as
long as GRPO took, and evaluates that. Stages that are finished are not run again; those that other
code or another machine made are refused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.ablation_table import mean_f1
from benchmarks.quality.made_by import made_by, sign
from benchmarks.result import PUBLISHED, place_of, write_section
from t2g_ray.evaluation.intervals import Interval, paired_interval
from t2g_ray.graph.counts import GraphCounts
from t2g_ray.report.demo import grpo_dir
from t2g_ray.run.folder import RunDir, write_json
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics

FIGURES = ("f1/entities", "f1/relations", "json_valid_rate")
WALLS = ("sft_wall_s", "grpo_wall_s", "wall_s")
SECTION = "benchmarks.quality.seeds"


def run_seed(seed: int, out: Path) -> dict[str, Any]:
    """Demo, continued SFT and its evaluation for one seed; returns all figures."""
    folder = out / f"seed_{seed}"
    sign(folder, made_by(seed=seed))
    if not (folder / "report.json").exists():
        run_t2g("demo", "--run-dir", str(folder), "--seed", str(seed))
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    continued = folder / "sft_continued"
    if not (continued / "model").exists():
        run_t2g(
            "sft",
            "configs/demo_sft.yaml",
            f"run_dir={continued}",
            f"model={folder / 'sft' / 'model'}",
            f"seed={seed}",
            f"steps={steps_in(folder / 'sft', report['grpo_wall_s'])}",
        )
    result, by_record = folder / "sft_continued.json", folder / "sft_continued.jsonl"
    records = str(report["records"])
    model = str(continued / "model")
    run_t2g(
        *("eval", "--model", model, "--data", "embedded", "--seed", str(seed)),
        *("--max-records", records, "--json", str(result), "--per-record", str(by_record)),
    )
    rival = json.loads(result.read_text())
    interval = against_continued(RunDir(grpo_dir(folder)).evals, by_record)
    return {**report, "sft_continued": {**rival, "interval_of_grpo": interval}}


def against_continued(evals: Path, by_record: Path) -> Interval:
    """95 % interval of the mean F1 of GRPO over that of SFT continued, paired over records."""
    lines = [line for line in read_json_lines(evals) if line["split"] == "heldout"]
    trained = [GraphCounts.from_row(row) for row in lines[-1]["by_record"]]
    rival = [
        GraphCounts.from_row([*line["entities"], *line["relations"]])
        for line in read_json_lines(by_record)
    ]
    return paired_interval(rival, trained, seed=0)["f1/mean"]


def steps_in(sft: Path, seconds: float) -> int:
    """SFT steps that fit into `seconds`, at the pace of the run in `sft`, start-up left out."""
    return max(1, round(seconds / seconds_per_step_in(read_metrics(sft / "metrics.jsonl"))))


def seconds_per_step_in(lines: Sequence[Mapping[str, Any]]) -> float:
    """Mean step between the first line of metrics and the last."""
    seconds, steps = (float(lines[-1][key]) - float(lines[0][key]) for key in ("time_s", "step"))
    return seconds / steps


def run_t2g(*arguments: str) -> None:
    """Run a command of the product; raises CalledProcessError when it fails."""
    subprocess.run([sys.executable, "-m", "t2g_ray.cli", *arguments], check=True)


def published(results: Mapping[int, Mapping[str, Any]], command: str) -> dict[str, Any]:
    """Everything that the section says; JSON has no numbers for keys."""
    return {
        "command": command,
        "made_by": made_by(),
        "seeds": {str(seed): _kept(result) for seed, result in results.items()},
    }


def _kept(result: Mapping[str, Any]) -> dict[str, Any]:
    names, rival = result.get("heldout_names"), result["sft_continued"]
    kept: dict[str, Any] = {key: result[key] for key in ("records", *WALLS)}
    kept |= {key: _figures(result[key]) for key in ("before", "sft_continued", "after")}
    kept["against_sft"] = list(result["interval"]["f1/mean"])
    kept["against_sft_continued"] = list(rival["interval_of_grpo"])
    if names:
        kept["heldout_names"] = {key: _figures(names[key]) for key in ("before", "after")}
    return kept


def _figures(found: Mapping[str, Any]) -> dict[str, float]:
    return {key: found[key] for key in FIGURES}


def table(document: Mapping[str, Any]) -> str:
    """Markdown: one row a seed and stage, exact micro F1."""
    rows = [
        "| seed | policy | entity F1 | relation F1 | mean | JSON valid | mean against SFT, 95 % "
        "| against SFT continued, 95 % |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    for seed, result in document["seeds"].items():
        before, rival, after = (result[key] for key in ("before", "sft_continued", "after"))
        changes = [
            _change(before, after, result["against_sft"]),
            _change(rival, after, result["against_sft_continued"]),
        ]
        rows.append(_row(seed, "SFT", before))
        rows.append(_row(seed, "SFT continued", rival))
        rows.append(_row(seed, "SFT + GRPO", after, *changes))
        names = result.get("heldout_names")
        if names:
            rows.append(_row(seed, "SFT, unseen names", names["before"]))
            rows.append(_row(seed, "SFT + GRPO, unseen names", names["after"]))
    return "\n".join(rows) + "\n"


def _change(before: Mapping[str, Any], after: Mapping[str, Any], interval: Sequence[float]) -> str:
    low, high = interval
    return f"{mean_f1(after) - mean_f1(before):+.3f} [{low:+.3f}, {high:+.3f}]"


def _row(
    seed: str, name: str, figures: Mapping[str, Any], over_sft: str = "", over_rival: str = ""
) -> str:
    entities, relations, valid = (f"{figures[key]:.3f}" for key in FIGURES)
    numbers = f"{entities} | {relations} | {mean_f1(figures):.3f} | {valid}"
    return f"| {seed} | {name} | {numbers} | {over_sft} | {over_rival} |"


def section(document: Mapping[str, Any]) -> str:
    """What belongs into the results page."""
    results, maker = document["seeds"], document["made_by"]
    first = next(iter(results.values()))
    seconds = "; ".join(
        f"seed {seed}: SFT {r['sft_wall_s']:.0f} s, GRPO {r['grpo_wall_s']:.0f} s, "
        f"all {r['wall_s']:.0f} s"
        for seed, r in results.items()
    )
    return f"""Greedy decoding on {first["records"]} held-out records, exact micro F1.
"SFT continued" goes on from the SFT policy on the same records for as long as GRPO took. Intervals
are paired bootstraps over records of SFT + GRPO against the other policy.

{table(document)}
Wall-clock: {seconds}. Measured on: {place_of(maker)}.

Made by `{document["command"]}`, code {maker["code"]}. Figures: `benchmarks/published/seeds.json`.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all seeds, print the table, and put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--table", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--published", type=Path, default=PUBLISHED / "seeds.json")
    options = parser.parse_args(arguments)
    results = {seed: run_seed(seed, options.out) for seed in options.seeds}
    seeds = " ".join(str(seed) for seed in options.seeds)
    document = published(results, f"python -m benchmarks.quality.seeds --seeds {seeds}")
    options.published.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.published, document)
    write_section(options.table, SECTION, section(document))
    print(table(document))


if __name__ == "__main__":
    main()
