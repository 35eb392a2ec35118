"""Completions consumed a second: this product against TRL's GRPOTrainer on the same work.

Same policy, prompts in the same order, group size, length limit, precision, optimiser and reward.
Each side runs as its users run it: TRL with transformers generation and all cores in one process,
this product with the actors of its configuration. Groups without signal count on both sides.
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

from benchmarks.inputs.workload import first_prompts
from benchmarks.peers.trl_side import TrlWork
from benchmarks.result import ResultRow, make_row, ratio_row
from benchmarks.speed.loop import WARM_UP_STEPS, LoopMode, throughput_run
from t2g_ray.config import GrpoConfig
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.records.jsonl import record_to_dict
from t2g_ray.run.folder import RunDir, write_json

Figures = Mapping[str, float]


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
    modes = [LoopMode(max_staleness=s) for s in sorted({*staleness, config.max_staleness})]
    figures: dict[str, list[Figures]] = {"trl": [], **{mode.name: [] for mode in modes}}
    for number in range(runs):
        seed = config.seed + number
        figures["trl"].append(_run_trl(config, steps, seed, threads))
        for mode in modes:
            figures[mode.name].append(_run_product(config, mode, steps, seed))
    return _rows(figures, shipped=LoopMode(max_staleness=config.max_staleness).name)


def _rows(figures: Mapping[str, Sequence[Figures]], shipped: str) -> list[ResultRow]:
    units = {
        "completions_per_s": "completions/s",
        "tokens_per_completion": "tokens",
        "no_signal_share": "share",
    }
    rows = [
        make_row(f"{key}/{side}", [of_run[key] for of_run in of_runs], unit)
        for side, of_runs in figures.items()
        for key, unit in units.items()
    ]
    rates = {
        side: [of_run["completions_per_s"] for of_run in of_runs]
        for side, of_runs in figures.items()
    }
    ours = [side for side in figures if side != "trl"]
    return [
        *rows,
        *(ratio_row(f"ratio_vs_trl/{side}", rates[side], rates["trl"]) for side in ours),
        ratio_row("ratio_vs_trl", rates[shipped], rates["trl"]),
    ]


def _run_product(config: GrpoConfig, mode: LoopMode, steps: int, seed: int) -> Figures:
    lines = throughput_run(config, mode, steps=steps, seed=seed)
    num_groups = len(lines) * config.prompts_per_step
    num_completions = num_groups * config.group_size

    def total(key: str) -> float:
        return sum(line[key] or 0.0 for line in lines)

    return {
        "completions_per_s": num_completions / total("time/step_s"),
        "tokens_per_completion": total("tokens/generated") / num_completions,
        "no_signal_share": total("groups/no_signal") / num_groups,
    }


def _run_trl(config: GrpoConfig, steps: int, seed: int, threads: int) -> Figures:
    folder = Path(config.run_dir) / "trl"
    folder.mkdir(parents=True, exist_ok=True)
    work, answer = folder / "work.json", folder / "answer.json"
    write_json(work, asdict(_trl_work(config, steps, seed)))
    answer.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.peers.trl_side",
        str(work),
        str(answer),
    ]
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


def _trl_work(config: GrpoConfig, steps: int, seed: int) -> TrlWork:
    config = config.model_copy(update={"seed": seed})
    model = resolve_model(config, RunDir(config.run_dir))
    num_steps = steps + WARM_UP_STEPS
    prompts = first_prompts(config, load_tokenizer(model), num_steps * config.prompts_per_step)
    return TrlWork(
        model=model,
        prompt_ids=[list(prompt.token_ids) for prompt, _ in prompts],
        records=[record_to_dict(record) for _, record in prompts],
        reward=config.reward.model_dump(mode="json"),
        prompts_per_step=config.prompts_per_step,
        group_size=config.group_size,
        max_new_tokens=config.sampling.max_new_tokens,
        temperature=config.sampling.temperature,
        lr=config.learner.optimizer.lr,
        beta2=config.learner.optimizer.beta2,
        clip=(config.algorithm.clip_low, config.algorithm.clip_high),
        steps=num_steps,
        warm_up_steps=WARM_UP_STEPS,
        seed=seed,
    )
