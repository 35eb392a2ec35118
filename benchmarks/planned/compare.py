"""Plans from measured rates against short real runs of the same configuration: tokens a second.

A case is a stage and a ZeRO stage. Rates are measured before each run, on the same actors. Every
group of a run is trained, by a reward that differs inside each, so that a step's work is what the
plan counts. Not counted are the first steps, which allocate. A plan is made for the lengths of the
counted steps, which differ from batch to batch.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.inputs.random_model import write_random_model
from benchmarks.planned.rates import measure_rates
from benchmarks.result import ResultRow, make_row, ratio_row
from benchmarks.speed.loop import WARM_UP_STEPS
from t2g_ray.config import GrpoConfig, SftConfig, StageConfig, build_config
from t2g_ray.model.policy import resolve_model
from t2g_ray.planning.parts import Speed
from t2g_ray.planning.shapes import read_shape
from t2g_ray.planning.speed.hardware import Hardware
from t2g_ray.planning.speed.lengths import Lengths, choose_lengths
from t2g_ray.planning.speed.plan import plan_speed
from t2g_ray.planning.speed.rates import Rates
from t2g_ray.planning.speed.work import sequences_of
from t2g_ray.run.folder import RunDir
from t2g_ray.run.machine import usable_cores
from t2g_ray.run.metrics import MetricsLine, read_metrics

Stage = Literal["sft", "grpo"]
REWARD = "benchmarks.selftest.subjects.reward:spread"
STAGES: tuple[Stage, ...] = ("sft", "grpo")
QUIET: Mapping[str, Any] = {"checkpoint": {"every": 0}, "eval": {"every": 0}, "resume": "never"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What was measured once of a case, and what had been predicted."""

    predicted: float
    measured: float
    """Tokens a second, both."""


def run(
    config: GrpoConfig,
    *,
    runs: int,
    steps: int,
    stages: Sequence[Stage] = STAGES,
    zero_stages: Sequence[int] = (0, 3),
) -> list[ResultRow]:
    """Rows of every case: predicted, measured, and the one over the other."""
    cases = {
        f"{stage}/zero_{zero}": case_config(config, stage, zero, steps)
        for stage in stages
        for zero in zero_stages
    }
    found: dict[str, list[Planned]] = {name: [] for name in cases}
    for _ in range(runs):
        for name, case in cases.items():
            rates = measure_rates(case)
            lines = lines_of_run(case)
            speed = speed_of(case, rates, lines)
            found[name].append(Planned(predicted=speed.tokens_per_s, measured=tokens_per_s(lines)))
    return [row for name, of_case in found.items() for row in rows_of(name, of_case)]


def random_policy(shape: str, cache: Path) -> str:
    """The folder of a policy of this shape with random weights, below `cache`, written once.

    Raises ValueError for a shape that there is none of.
    """
    folder = (cache / f"random_{shape}").resolve()
    if not (folder / "model.safetensors").is_file():
        write_random_model(folder, shape)
    return str(folder)


def rows_of(name: str, found: Sequence[Planned]) -> list[ResultRow]:
    """The rows of one case."""
    predicted = [one.predicted for one in found]
    measured = [one.measured for one in found]
    return [
        make_row(f"predicted_tokens_per_s/{name}", predicted, "tokens/s"),
        make_row(f"measured_tokens_per_s/{name}", measured, "tokens/s"),
        ratio_row(f"predicted_over_measured/{name}", predicted, measured),
    ]


def case_config(config: GrpoConfig, stage: Stage, zero_stage: int, steps: int) -> StageConfig:
    """The configuration of one case, of as many steps as are counted and those before them."""
    tree = config.model_dump(mode="json")
    folder = Path(config.run_dir) / f"{stage}_zero_{zero_stage}"
    tree |= {**QUIET, "run_dir": str(folder), "steps": steps + WARM_UP_STEPS}
    tree["data"] |= {"heldout": "none"}
    # Weights that hardly move keep the lengths of the first step.
    optimizer = {**tree["learner"]["optimizer"], "lr": 1e-7, "name": "adamw"}
    tree["learner"] |= {"zero_stage": zero_stage, "optimizer": optimizer}
    if stage == "grpo":
        tree["reward"] |= {"custom": [{"path": REWARD}]}
        return build_config(GrpoConfig, tree)
    kept = SftConfig.model_fields.keys()
    tree = {key: value for key, value in tree.items() if key in kept}
    return build_config(SftConfig, {**tree, "batch_size": 2 * config.prompts_per_step})


def speed_of(config: StageConfig, rates: Rates, lines: Sequence[MetricsLine]) -> Speed:
    """The plan of a run from these rates, for texts as long as those of the counted steps: batches
    differ in length, and a plan is for given lengths."""
    shape = read_shape(resolve_model(config, RunDir(config.run_dir)))
    assert shape is not None  # of a model whose rates were measured
    counted = lines[WARM_UP_STEPS:]
    sequences = len(counted) * math.prod(sequences_of(config))
    prompt, answer = (
        sum(line[key] or 0.0 for line in counted) / sequences
        for key in ("tokens/prompt", "tokens/trained")
    )
    met = Lengths(
        prompt=prompt, answer=answer, longest=max(answer, rates.longest_tokens), source="as met"
    )
    cores = None if config.learner.gpus else float(usable_cores())
    hardware = Hardware(source=rates, cores=cores)
    return plan_speed(config, shape, choose_lengths(config, like=met), hardware)


def lines_of_run(config: StageConfig) -> list[MetricsLine]:
    """All lines of metrics of one real run, in a folder of its own that it replaces."""
    shutil.rmtree(config.run_dir, ignore_errors=True)
    if isinstance(config, GrpoConfig):
        from actors.grpo import run_grpo

        return read_metrics(run_grpo(config).metrics)
    from actors.sft import run_sft

    assert isinstance(config, SftConfig)
    return read_metrics(run_sft(config).metrics)


def tokens_per_s(lines: Sequence[MetricsLine]) -> float:
    """Over the steps after the first ones. Raises ValueError where there are none."""
    counted = lines[WARM_UP_STEPS:]
    if not counted:
        raise ValueError(f"a run must have more than {WARM_UP_STEPS} steps, found {len(lines)}")
    tokens = sum((line["tokens/prompt"] or 0) + (line["tokens/trained"] or 0) for line in counted)
    begun, ended = (line["time_s"] or 0.0 for line in (lines[WARM_UP_STEPS - 1], lines[-1]))
    return tokens / (ended - begun)
