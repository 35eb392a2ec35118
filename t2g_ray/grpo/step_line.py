"""Summaries of a step's groups and the learner's report -> one line of metrics.jsonl.

Invariant: what arrived = trained + left untrained + waiting, in groups and in tokens, at the end
of every step; `Books` stops the run otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from t2g_ray.config import GrpoConfig
from t2g_ray.graph.counts import Counts
from t2g_ray.grpo.books import Surplus
from t2g_ray.run.metrics import throughput_metrics
from t2g_ray.types import GroupSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class StepClock:
    """Step number, seconds since the start, and seconds since the step before ended."""

    step: int
    time_s: float
    wall_s: float


def step_line(
    summaries: Sequence[GroupSummary],
    trained: Mapping[int, Sequence[int]],
    surplus: Surplus,
    clock: StepClock,
    report: Mapping[str, float],
    config: GrpoConfig,
) -> dict[str, float]:
    """All keys of METRIC_KEYS except what comes from the trace: times, idle shares, passes.

    `summaries` are the groups that the step took; `trained` gives the lengths of the completions
    that gave gradient, by the index of their group; `surplus` is what the step gave up.
    """
    used = [s for s in summaries if s.index in trained]
    num_valid = sum(sum(s.is_valid) for s in summaries)
    num_completions = sum(len(s.rewards) for s in summaries)
    generated = sum(s.generated_tokens for s in summaries)
    trained_prompt = sum(s.prompt_tokens * len(trained[s.index]) for s in used)
    trained_tokens = sum(sum(lengths) for lengths in trained.values())
    num_dropped = sum(1 for s in summaries if sum(s.is_valid) < 2)
    return {
        "step": clock.step,
        "policy_version": clock.step,
        "time_s": clock.time_s,
        "time/step_s": clock.wall_s,
        **_reward_metrics(summaries),
        "groups/trained": len(used),
        "groups/no_signal": len(summaries) - len(used) - num_dropped,
        "groups/dropped": num_dropped + len(surplus.finished),
        "groups/extra": len(summaries) - config.prompts_per_step,
        "groups/aborted": len(surplus.aborted),
        "groups/grader_errors": num_completions - num_valid,
        "tokens/prompt": trained_prompt,
        "tokens/generated": generated + sum(s.generated_tokens for s in surplus.finished),
        "tokens/aborted": sum(map(sum, surplus.aborted.values())),
        "tokens/trained": trained_tokens,
        **throughput_metrics(
            prompt_tokens=trained_prompt,
            generated_tokens=trained_tokens,
            wall_s=clock.wall_s,
            num_devices=config.num_devices,
        ),
        **_staleness(used or summaries, clock.step - 1),
        "completion_length/mean": generated / num_completions,
        "completion_length/taken_over_begun": _length_bias(summaries, surplus),
        "completion_length/truncated_rate": sum(sum(s.is_truncated) for s in summaries)
        / num_completions,
        **_NO_TRAINING,
        **report,
    }


def _length_bias(summaries: Sequence[GroupSummary], surplus: Surplus) -> float:
    """Mean length of the completions taken, over that of all begun as far as they came."""
    taken = [length for s in summaries for length in s.lengths]
    finished = [length for s in surplus.finished for length in s.lengths]
    aborted = [length for lengths in surplus.aborted.values() for length in lengths]
    return fmean(taken) / fmean([*taken, *finished, *aborted])


def _staleness(summaries: Sequence[GroupSummary], version: int) -> dict[str, float]:
    """Ages under `version`, the weights that the step left; 0 where nothing was graded."""
    counts: Counter[int] = Counter()
    for summary in summaries:
        counts.update(summary.tokens_by_version)
    ages = {version - written: count for written, count in counts.items()}
    return {
        "staleness/mean": sum(age * n for age, n in ages.items()) / max(1, counts.total()),
        "staleness/max": max(ages, default=0),
    }


_NO_TRAINING = dict.fromkeys(
    ["loss", "grad_norm", "entropy", "kl", "clip_fraction", "mismatch/kl"], 0.0
) | {"mismatch/max_ratio": 1.0}
"""What a step reports in which no group carried signal."""

_SCORES = ("reward/mean", "reward_std/group_mean", "f1/entities", "f1/relations", "json_valid_rate")


def _reward_metrics(summaries: Sequence[GroupSummary]) -> dict[str, float]:
    valid = [
        [r for r, ok in zip(s.rewards, s.is_valid, strict=True) if ok]
        for s in summaries
        if any(s.is_valid)
    ]
    if not valid:
        return dict.fromkeys(_SCORES, 0.0)
    names = sorted({name for s in summaries for name in s.parts})
    num_valid = sum(len(rewards) for rewards in valid)
    parts = {
        f"reward/{name}": sum(s.parts.get(name, 0.0) * sum(s.is_valid) for s in summaries)
        / num_valid
        for name in names
    }
    return {
        "reward/mean": sum(map(sum, valid)) / num_valid,
        **parts,
        "reward_std/group_mean": fmean(pstdev(rewards) for rewards in valid),
        "f1/entities": _sum_counts([s.entities for s in summaries]).f1,
        "f1/relations": _sum_counts([s.relations for s in summaries]).f1,
        "json_valid_rate": sum(s.num_parsed for s in summaries) / num_valid,
    }


def _sum_counts(counts: Sequence[tuple[int, int, int]]) -> Counts:
    return sum((Counts(*triple) for triple in counts), Counts(0, 0, 0))
