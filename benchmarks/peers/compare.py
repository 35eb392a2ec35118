"""Completions consumed and trained a second: this product against TRL's GRPOTrainer.

Same policy, prompts in the same order, group size, length limit, precision, reward, advantage,
loss, optimiser and learning rate of every step; settings that TRL has no equal of are refused. The
sides take turns, and each counts the same steps. Each side runs as its users run it: TRL with
transformers generation and all cores in one process, this product with the actors of its
configuration. Groups without signal count as consumed on both sides, and on neither as trained,
although TRL computes them.
TRL is needed for this benchmark only: pip install --no-deps trl==1.16.0
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.inputs.workload import first_prompts
from benchmarks.peers.trl_side import TrlWork
from benchmarks.result import ResultRow, make_row, ratio_row, turns
from benchmarks.speed.loop import Clock, LoopMode, throughput_run, values_of
from t2g_ray.config import GrpoConfig
from t2g_ray.learner.optim import lr_share
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.records.jsonl import record_to_dict
from t2g_ray.run.folder import RunDir, write_json
from t2g_ray.run.metrics import MetricsLine

Figures = Mapping[str, float]

UNITS = {
    "completions_per_s": "completions/s",
    "trained_completions_per_s": "completions/s",
    "tokens_per_completion": "tokens",
    "no_signal_share": "share",
}
RATIOS = {
    "ratio_vs_trl": "completions_per_s",
    "trained_ratio_vs_trl": "trained_completions_per_s",
    "tokens_ratio_vs_trl": "tokens_per_completion",
}
"""The last says whether both wrote completions of the same length: else the others show nothing."""
LR_TOLERANCE = 1e-3
"""Of mean learning rates; a difference of one step in a schedule of 30 is ten times as much."""

ADVANTAGES = {"group_std": "group", "group_mean": "none", "group_mean_batch_std": "batch"}
LOSSES = {"tokens": "dapo", "sequences": "grpo", "constant": "dr_grpo"}
ADAM_EPSILON = 1e-8
"""Of both sides: the learner takes PyTorch's default."""


def run(
    config: GrpoConfig,
    *,
    runs: int,
    steps: int = 20,
    staleness: Sequence[int] = (0, 1),
    trl_threads: int | None = None,
) -> list[ResultRow]:
    """Rows of TRL and of each staleness; `ratio_vs_trl` is that of the configuration as it is.

    `trl_threads` is None for all cores. Raises ValueError where TRL is not installed.
    """
    if importlib.util.find_spec("trl") is None:
        raise ValueError(
            "the comparison needs TRL in this environment, found none; "
            "pip install --no-deps trl==1.16.0"
        )
    threads = trl_threads or len(os.sched_getaffinity(0))
    modes = {
        mode.name: mode
        for s in sorted({*staleness, config.max_staleness})
        for mode in [LoopMode(max_staleness=s)]
    }
    clock = Clock(counted=steps, lag=max(mode.max_staleness for mode in modes.values()))
    figures: dict[str, list[Figures]] = {side: [] for side in ("trl", *modes)}
    for number in range(runs):
        seeded = config.model_copy(update={"seed": config.seed + number})
        for side in turns(list(figures), number):
            if side == "trl":
                figures[side].append(_run_trl(seeded, clock, threads))
            else:
                lines = throughput_run(seeded, modes[side], clock, seed=seeded.seed)
                figures[side].append(product_figures(seeded, lines))
    return rows_of(figures, shipped=LoopMode(max_staleness=config.max_staleness).name)


def rows_of(figures: Mapping[str, Sequence[Figures]], shipped: str) -> list[ResultRow]:
    """The figures of each side in each run -> rows, and rates over TRL's.

    Raises ValueError where the sides did not train at the same learning rates.
    """
    rates = {side: [of_run["mean_lr"] for of_run in runs] for side, runs in figures.items()}
    for side, found in rates.items():
        if any(abs(a - b) > LR_TOLERANCE * b for a, b in zip(found, rates["trl"], strict=True)):
            raise ValueError(f"{side} and trl must have equal learning rates, found {rates}")
    rows = [
        make_row(f"{key}/{side}", [of_run[key] for of_run in runs], unit)
        for side, runs in figures.items()
        for key, unit in UNITS.items()
    ]
    for ratio, key in RATIOS.items():
        each = {side: [of_run[key] for of_run in runs] for side, runs in figures.items()}
        ours = [side for side in figures if side != "trl"]
        rows += [ratio_row(f"{ratio}/{side}", each[side], each["trl"]) for side in ours]
        rows.append(ratio_row(ratio, each[shipped], each["trl"]))
    return rows


def product_figures(config: GrpoConfig, lines: Sequence[MetricsLine]) -> Figures:
    """A completion is consumed when its step is over, and trained if it has a gradient."""
    num_groups = len(lines) * config.prompts_per_step
    num_completions = num_groups * config.group_size

    def total(key: str) -> float:
        return sum(values_of(lines, key))

    seconds = total("time/step_s")
    return {
        "completions_per_s": num_completions / seconds,
        "trained_completions_per_s": total("groups/trained") * config.group_size / seconds,
        "tokens_per_completion": total("tokens/generated") / num_completions,
        "no_signal_share": total("groups/no_signal") / num_groups,
        "mean_lr": total("lr") / len(lines),
    }


def _run_trl(config: GrpoConfig, clock: Clock, threads: int) -> Figures:
    folder = Path(config.run_dir) / "trl"
    folder.mkdir(parents=True, exist_ok=True)
    work, answer = folder / "work.json", folder / "answer.json"
    write_json(work, asdict(trl_work(config, clock)))
    answer.unlink(missing_ok=True)
    module = "benchmarks.peers.trl_side"
    command = [sys.executable, "-W", "ignore", "-m", module, str(work), str(answer)]
    # The benchmarks are no part of an installed package: its folder has them.
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not answer.is_file():
        raise RuntimeError(f"TRL must finish its run, it failed: {done.stderr[-2000:]}")
    figures: Figures = json.loads(answer.read_text(encoding="utf-8"))
    return figures


def trl_work(config: GrpoConfig, clock: Clock) -> TrlWork:
    """The same work for TRL. Raises ValueError for settings that it has no equal of."""
    model = resolve_model(config, RunDir(config.run_dir))
    prompts = first_prompts(config, load_tokenizer(model), clock.steps * config.prompts_per_step)
    optimizer = config.learner.optimizer
    return TrlWork(
        model=model,
        prompt_ids=[list(prompt.token_ids) for prompt, _ in prompts],
        records=[record_to_dict(record) for _, record in prompts],
        reward=config.reward.model_dump(mode="json"),
        prompts_per_step=config.prompts_per_step,
        group_size=config.group_size,
        max_new_tokens=config.sampling.max_new_tokens,
        temperature=config.sampling.temperature,
        lr=optimizer.lr,
        lr_shares=[lr_share(optimizer, step, clock.steps) for step in range(clock.steps)],
        arguments=trl_arguments(config),
        first=clock.first,
        counted=clock.counted,
        seed=config.seed,
    )


def trl_arguments(config: GrpoConfig) -> dict[str, Any]:
    """Algorithm and optimiser in the words of TRL's GRPOConfig."""
    algorithm, optimizer, learner = config.algorithm, config.learner.optimizer, config.learner
    unlike = {
        # TRL's reward functions see one completion each, not its batch.
        "reward.level": (config.reward.level, ("record",)),
        "algorithm.advantage": (algorithm.advantage, tuple(ADVANTAGES)),
        "algorithm.updates_per_batch": (algorithm.updates_per_batch, (1,)),
        "algorithm.kl_coef": (algorithm.kl_coef, (0.0,)),
        "algorithm.entropy_coef": (algorithm.entropy_coef, (0.0,)),
        "learner.optimizer.name": (optimizer.name, ("adamw",)),
        "learner.lora.rank": (learner.lora.rank, (0,)),
        "learner.dtype": (learner.dtype, ("float32",)),
        "sampling.over_sample": (config.sampling.over_sample, (1.0,)),
        "sampling.extra_groups": (config.sampling.extra_groups, (0,)),
        "data.order": (config.data.order, ("shuffled",)),
    }
    for key, (found, allowed) in unlike.items():
        if found not in allowed:
            raise ValueError(f"both sides can only have {key} in {allowed}, found {found!r}")
    is_cispo = algorithm.objective == "cispo"
    return {
        "scale_rewards": ADVANTAGES[algorithm.advantage],
        "loss_type": "cispo" if is_cispo else LOSSES[algorithm.normalisation],
        "importance_sampling_level": algorithm.ratio,
        "epsilon": algorithm.clip_low,
        # TRL's bound of CISPO is the largest ratio itself, not its distance from 1.
        "epsilon_high": algorithm.clip_high + is_cispo,
        "mask_truncated_completions": algorithm.mask_truncated,
        "beta": 0.0,
        "adam_beta1": optimizer.beta1,
        "adam_beta2": optimizer.beta2,
        "adam_epsilon": ADAM_EPSILON,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.max_grad_norm,
    }
