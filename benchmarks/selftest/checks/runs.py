"""Whole runs of a few steps: the supervised stage, the loop in both modes, one device in turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.selftest.outcome import Figure
from benchmarks.selftest.running import CheckFailed
from benchmarks.speed.loop import Clock, LoopMode, loop_figures, throughput_run, values_of
from t2g_ray.config import GrpoConfig, SftConfig
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import MetricsLine, read_metrics

SHOWN = {
    "tokens_per_s": "tokens/s",
    "wall_s_per_step": "s",
    "sync_s_per_step": "s",
    "learner_idle": "share",
    "samplers_idle": "share",
    "staleness": "versions",
    "trained_groups_per_step": "groups",
}

TURNS = ("leave", "wake", "generate", "sleep", "come back", "train")
"""Spans of a step in turns: the learner leaves the device and comes back, the engine wakes up, and
sleeps."""


def loop(config: GrpoConfig, *, steps: int) -> list[Figure]:
    """A GRPO run of some counted steps, all of whose invariants hold; a slow one passes."""
    lines = _run(config, steps)
    unverified = [line["step"] for line in lines if line["sync/verified"] != 1]
    if unverified:
        raise CheckFailed(f"every sync must be verified, found none at steps {unverified}")
    figures = loop_figures(lines)
    if figures["trained_groups_per_step"] < config.prompts_per_step:
        raise CheckFailed(
            f"each step must train {config.prompts_per_step} groups, found "
            f"{figures['trained_groups_per_step']:g}"
        )
    if not 0 <= figures["staleness"] <= config.max_staleness:
        raise CheckFailed(
            f"groups must be at most {config.max_staleness} versions old, found "
            f"{figures['staleness']:g} on average"
        )
    return [Figure(name, figures[name], unit) for name, unit in SHOWN.items()]


def turns(config: GrpoConfig, *, steps: int) -> list[Figure]:
    """A run whose learner and engine take turns: each sleeps while the other one works."""
    figures = loop(config, steps=steps)
    folder = Path(config.run_dir) / LoopMode(max_staleness=0).name
    moves = json.loads(RunDir(folder).trace.read_text(encoding="utf-8"))
    spans = {
        name: [(move["ts"], move["ts"] + move["dur"]) for move in moves if move.get("name") == name]
        for name in TURNS
    }
    if never := [name for name, found in spans.items() if not found]:
        raise CheckFailed(
            f"a step in turns must hold each of {', '.join(TURNS)}, found no {', '.join(never)}"
        )
    for begin, end in spans["train"]:
        if any(start < end and begin < stop for start, stop in spans["generate"]):
            raise CheckFailed(
                "the engine must write nothing while the learner trains on its device, found both "
                "at once"
            )
    return [
        *figures,
        *(Figure(f"{name}_s", _mean_s(spans[name]), "s") for name in ("sleep", "wake")),
    ]


def _mean_s(spans: Sequence[tuple[float, float]]) -> float:
    return fmean(end - start for start, end in spans) / 1e6


def _run(config: GrpoConfig, steps: int) -> list[MetricsLine]:
    mode = LoopMode(max_staleness=config.max_staleness)
    clock = Clock(counted=steps, lag=config.max_staleness)
    return throughput_run(config, mode, clock, seed=config.seed)


def sft(config: SftConfig) -> list[Figure]:
    """The supervised stage on this device: its loss falls."""
    from actors.sft import run_sft

    losses = values_of(read_metrics(run_sft(config).metrics), "loss")
    if len(losses) != config.steps or losses[-1] >= losses[0]:
        raise CheckFailed(
            f"the loss must fall over {config.steps} steps, found {losses[0]:.3f} and then "
            f"{losses[-1]:.3f} after {len(losses)}"
        )
    return [Figure("first_loss", losses[0], "nats"), Figure("last_loss", losses[-1], "nats")]
