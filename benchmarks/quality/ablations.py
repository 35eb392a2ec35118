"""Variants of the demo's GRPO stage, from one SFT policy a seed -> a table of held-out F1.

    python -m benchmarks.quality.ablations --seeds 0 1 2 --table docs/ablations.md

Every variant trains for the same number of steps from the same policy, and is evaluated on the
same held-out records before and after. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inputs.policy import DEMO_SFT, digest_of
from benchmarks.quality.ablation_table import published, section, table
from benchmarks.quality.made_by import DEMO_GRPO, check_same, made_by
from benchmarks.quality.seeds import FIGURES, run_t2g, steps_in
from benchmarks.quality.variants import DEFAULT, SFT, SFT_CHANGES, STARTS, VARIANTS
from benchmarks.result import PUBLISHED, write_section
from t2g_ray.run.folder import RunDir, write_json
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import last_time_s

SECTION = "benchmarks.quality.ablations"
VariantResult = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationSettings:
    """What all variants of a table have in common."""

    out: Path
    policies: Path
    """Folder of `benchmarks.quality.seeds`, whose SFT policies are used where they exist."""
    steps: int
    records: int
    overrides: tuple[str, ...] = ()

    def folder(self, seed: int, variant: str) -> Path:
        """The run of a variant; its result lies beside it, as a file of that name."""
        return self.out / f"seed_{seed}" / variant


def sft_run(settings: AblationSettings, seed: int, variant: str) -> RunDir:
    """The supervised run that a variant starts from, trained where there is none."""
    changes = SFT_CHANGES.get(variant, ())
    name = f"policy_{variant}" if changes else "policy"
    given = RunDir(settings.policies / f"seed_{seed}" / "sft")
    is_given = not changes and (given.model / "config.json").is_file()
    run = given if is_given else RunDir(settings.folder(seed, name))
    if not (run.model / "config.json").is_file():
        own = (f"run_dir={run.path}", f"seed={seed}", "resume=auto")
        run_t2g("sft", str(DEMO_SFT), *own, *changes)
    return run


def run_variant(settings: AblationSettings, seed: int, name: str) -> VariantResult:
    """Train and evaluate one variant, unless its result exists already.

    Raises ValueError when that result was made by something else, and CalledProcessError when a
    command fails.
    """
    start = STARTS.get(name)
    sft = sft_run(settings, seed, start or name)
    folder = settings.folder(seed, start or name)
    path = settings.folder(seed, name).with_suffix(".json")
    maker = _maker(settings, seed, name, sft)
    if path.is_file():
        result: VariantResult = json.loads(path.read_text(encoding="utf-8"))
        check_same(path, result["made_by"], maker)
        return result
    if start:
        run_variant(settings, seed, start)
        result = {"wall_s": 0.0, **_evaluated(folder, 0)}
    else:
        shutil.rmtree(folder, ignore_errors=True)  # an unfinished run has no wall-clock
        _train(settings, seed, name, sft)
        figures = _evaluate(settings, seed, folder) if name == SFT else _evaluated(folder, -1)
        result = {"wall_s": last_time_s(RunDir(folder).metrics), **figures}
    result = {"made_by": maker, **result}
    write_json(path, result)
    return result


def _train(settings: AblationSettings, seed: int, name: str, sft: RunDir) -> None:
    common = (
        f"run_dir={settings.folder(seed, name)}",
        f"model={sft.model}",
        f"seed={seed}",
        "checkpoint.every=0",
    )
    if name == SFT:
        wall_s = run_variant(settings, seed, DEFAULT)["wall_s"]
        run_t2g("sft", str(DEMO_SFT), *common, f"steps={steps_in(sft.path, wall_s)}")
        return
    sizes = (f"steps={settings.steps}", f"data.heldout_records={settings.records}", "eval.every=0")
    run_t2g("grpo", str(DEMO_GRPO), *common, *sizes, *settings.overrides, *VARIANTS[name])


def _evaluated(folder: Path, number: int) -> VariantResult:
    """What the run itself found at one of its evaluations: 0 the first, -1 the last."""
    lines = [one for one in read_json_lines(RunDir(folder).evals) if one["split"] == "heldout"]
    return {key: lines[number][key] for key in (*FIGURES, "by_record")}


def _evaluate(settings: AblationSettings, seed: int, folder: Path) -> VariantResult:
    out, by_record = folder / "eval.json", folder / "eval.jsonl"
    run_t2g(
        *("eval", "--model", str(RunDir(folder).model), "--data", "embedded", "--seed", str(seed)),
        *("--max-records", str(settings.records), "--json", str(out)),
        *("--per-record", str(by_record)),
    )
    figures: VariantResult = json.loads(out.read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in by_record.read_text(encoding="utf-8").splitlines()]
    return {
        **{key: figures[key] for key in FIGURES},
        "by_record": [[*line["entities"], *line["relations"]] for line in lines],
    }


def _maker(settings: AblationSettings, seed: int, name: str, sft: RunDir) -> dict[str, Any]:
    """Everything that a result depends on."""
    return made_by(
        policy=digest_of(sorted(sft.model.glob("*.safetensors"))),
        changes=[*settings.overrides, *VARIANTS[name]],
        steps=settings.steps,
        records=settings.records,
        seed=seed,
    )


def _results(
    settings: AblationSettings, seeds: Sequence[int], names: Sequence[str]
) -> tuple[dict[str, dict[int, VariantResult]], list[str]]:
    """Results by variant and seed, and what failed; the first seed is complete first."""
    results: dict[str, dict[int, VariantResult]] = {name: {} for name in names}
    failed = []
    for seed in seeds:
        for name in names:
            try:
                results[name][seed] = run_variant(settings, seed, name)
            except subprocess.CalledProcessError as error:
                failed.append(f"{name}, seed {seed}: {error}")
    return results, failed


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, print the table, write it into the page; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.ablations", description=__doc__
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--table", type=Path, default=Path("docs/ablations.md"))
    parser.add_argument("--published", type=Path, default=PUBLISHED / "ablations.json")
    parser.add_argument("--steps", type=int, default=90, help="GRPO steps of each variant")
    parser.add_argument("--records", type=int, default=512, help="held-out records")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--policies", type=Path, default=Path("runs/seeds"))
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="for all GRPO runs"
    )
    options = parser.parse_args(arguments)
    settings = AblationSettings(
        out=options.out.resolve(),
        policies=options.policies.resolve(),
        steps=options.steps,
        records=options.records,
        overrides=tuple(options.set),
    )
    names = [DEFAULT, *(name for name in options.variants if name != DEFAULT)]
    results, failed = _results(settings, options.seeds, names)
    line = " ".join(["python -m benchmarks.quality.ablations", *(arguments or sys.argv[1:])])
    if results[DEFAULT]:
        document = published(results, failed, line)
        print(table(document))
        options.published.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.published, document)
        write_section(options.table, SECTION, section(document))
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
