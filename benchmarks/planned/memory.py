"""Runs of a few steps -> planned and measured resident memory of learner ranks and engines.

    python -m benchmarks.planned.memory                   all cases: a quarter of an hour
    python -m benchmarks.planned.memory --only demo sft   those whose name has all of these words
    python -m benchmarks.planned.memory --again           none: the plan of today, what was measured

Each case is a whole run of `t2g`. Its micro-batches fill the token budget to nine tenths or so, and
every step has two of them, so that gradients are there when activations are most.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from benchmarks.inputs.random_model import write_random_model
from benchmarks.planned.resident import memory_of, watch
from benchmarks.result import write_section
from t2g_ray.config import GrpoConfig, SftConfig, StageConfig, build_config, dump_config
from t2g_ray.planning.memory.engine import EngineMemory
from t2g_ray.planning.memory.held import MIB
from t2g_ray.planning.memory.learner import rank_footprint
from t2g_ray.planning.shapes import read_shape

Model = Literal["demo", "smollm2-135m"]
Stage = Literal["sft", "grpo"]
LIMIT_S = 400.0
PROCESSES = {
    "learner": r"LearnerActor|RayTrainWorker",
    "engine": r"RolloutActor",
    "reward": r"RewardActor",
    "run": r"t2g_ray\.cli",
}
SHAPE_OF = {"demo": "embedded", "smollm2-135m": "HuggingFaceTB/SmolLM2-135M"}
SECTION = "benchmarks.planned.memory"
FIGURES = Path(__file__).with_name("measured_memory.json")
"""What was measured for the page."""
COMMON: dict[str, Any] = {
    "device": "cpu",
    "data": {"train_records": 400, "heldout": "none"},
    "checkpoint": {"every": 0},
}
SFT: dict[str, Any] = {"steps": 2, "batch_size": 16, "prompt": {"style": "compact"}}
GRPO: dict[str, Any] = {
    "steps": 2,
    "prompts_per_step": 4,
    "group_size": 4,
    "prompt": {"style": "compact", "max_tokens": 160},
    "sampling": {"max_new_tokens": 96, "ignore_eos": True},
    "reward": {"custom": [{"path": "benchmarks.selftest.subjects.reward:spread"}]},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run."""

    model: Model
    stage: Stage
    zero_stage: int

    @property
    def name(self) -> str:
        """Example: "demo grpo ZeRO 3"."""
        return f"{self.model} {self.stage} ZeRO {self.zero_stage}"

    def config(self, folder: Path, model: str) -> StageConfig:
        """Two ranks with a thread each, and with GRPO one engine."""
        learner = {
            "ranks": 2,
            "zero_stage": self.zero_stage,
            "token_budget": 512,
            "optimizer": {"lr": 1e-5},
        }
        tree = {**COMMON, "run_dir": str(folder / "run"), "model": model, "learner": learner}
        if self.stage == "sft":
            return build_config(SftConfig, {**tree, **SFT})
        return build_config(GrpoConfig, {**tree, **GRPO, "data": {**COMMON["data"], "part": "rl"}})


MODELS: tuple[Model, ...] = ("demo", "smollm2-135m")
STAGES: tuple[Stage, ...] = ("sft", "grpo")
CASES = tuple(
    Case(model=model, stage=stage, zero_stage=zero)
    for model, stage, zero in product(MODELS, STAGES, (0, 3))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The largest process of a kind in one run."""

    case: str
    process: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was measured beside what is planned; bytes."""

    measured: Measured
    planned: int

    @property
    def error(self) -> float:
        """Share of what was measured that the plan says too much, or too little."""
        return self.planned / self.measured.num_bytes - 1


def planned_parts(config: StageConfig, model: str) -> dict[str, dict[str, int]]:
    """What a rank and an engine hold, part by part, each at its fullest moment."""
    shape = read_shape(SHAPE_OF.get(model, model))
    if shape is None:
        raise ValueError(f"a model with known sizes must be measured, found {model}; give another")
    moments = rank_footprint(config, shape).values()
    parts = {"learner": max(({**m.device, **m.host} for m in moments), key=memory_of)}
    if isinstance(config, GrpoConfig):
        parts["engine"] = dict(EngineMemory(config, shape).on_cpu()[0]["writing"].host)
    return parts


def measure(case: Case, folder: Path) -> Iterator[Measured]:
    """Run the case and look at its processes."""
    folder.mkdir(parents=True)
    model = "embedded"
    if case.model != "demo":
        model = write_random_model(folder / "model", case.model)
    file = folder / "config.yaml"
    file.write_text(dump_config(case.config(folder, model)), encoding="utf-8")
    command = [sys.executable, "-m", "t2g_ray.cli", case.stage, str(file)]
    resident = watch(command, limit_s=LIMIT_S)
    for process, pattern in PROCESSES.items():
        if peaks := resident.of(pattern):
            shown = ", ".join(f"{peak / MIB:.0f}" for peak in peaks)
            print(f"{case.name}: {process} {shown} MiB", flush=True)
            yield Measured(case=case.name, process=process, num_bytes=peaks[0])


def compared(measured: Sequence[Measured]) -> list[Compared]:
    """Those that a plan has parts of, with what it says now."""
    rows = []
    for case in CASES:
        parts = planned_parts(case.config(Path("run"), case.model), case.model)
        rows += [
            Compared(measured=one, planned=memory_of(parts[one.process]))
            for one in measured
            if one.case == case.name and one.process in parts
        ]
    return rows


def table(rows: Sequence[Compared]) -> str:
    """The comparison in Markdown."""
    lines = ["| run | process | planned, MiB | measured, MiB | error |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.measured.case} | {row.measured.process} | {row.planned / MIB:,.0f} | "
        f"{row.measured.num_bytes / MIB:,.0f} | {row.error:+.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


def read_measured(file: Path = FIGURES) -> list[Measured]:
    """What an earlier call wrote."""
    return [Measured(**one) for one in json.loads(file.read_text(encoding="utf-8"))]


def _keep(file: Path, case: Case, found: Sequence[Measured]) -> None:
    """Put what was found in place of what an earlier call found of this case."""
    before = read_measured(file) if file.exists() else []
    kept = [one for one in before if one.case != case.name]
    lines = [json.dumps(asdict(one)) for one in (*kept, *found)]
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it where it is wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planned.memory")
    parser.add_argument("--only", nargs="+", default=[], help="words of the names of cases")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="file of what was measured")
    parser.add_argument("--again", action="store_true", help="run nothing: compare those figures")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args(arguments)
    if not options.again:
        for case in CASES:
            if all(word in case.name.split() for word in options.only):
                with tempfile.TemporaryDirectory() as folder:
                    _keep(options.figures, case, list(measure(case, Path(folder) / "case")))
    shown = table(compared(read_measured(options.figures)))
    print(shown)
    if options.page:
        write_section(options.page, SECTION, shown)


if __name__ == "__main__":
    main()
