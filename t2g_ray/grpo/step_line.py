"""All that is known of a step -> one line of metrics.jsonl; the only module that names its keys.

What the trace adds (times, idle shares, passes) comes in `run_log`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from t2g_ray.config import GrpoConfig
from t2g_ray.graph.counts import GraphCounts
from t2g_ray.grpo.books import Surplus
from t2g_ray.grpo.staleness import TokenAges, token_ages
from t2g_ray.run.metrics import throughput_metrics
from t2g_ray.types import GroupSummary, StepReport, SyncReport, TrainReport
from t2g_ray.weights.manifest import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStep:
    """A step whose weights are published."""

    summaries: Sequence[GroupSummary]
    """Of the groups that the step took."""
    trained: Mapping[int, Sequence[int]]
    """Index of a group -> lengths of its completions that gave a gradient."""
    surplus: Surplus
    """The groups that the step gave up."""
    report: StepReport
    time_s: float
    """Since the run started."""
    wall_s: float
    """Since the end of the step before."""

    @property
    def used(self) -> list[GroupSummary]:
        """Summaries of the trained groups."""
        return [summary for summary in self.summaries if summary.index in self.trained]

    @property
    def ages(self) -> TokenAges:
        """Ages of the trained tokens, or of all taken where none was trained."""
        return token_ages(self.used or self.summaries, self.report.version - 1)


def step_line(step: FinishedStep, config: GrpoConfig) -> dict[str, float]:
    """All keys of `metric_keys` except those of the trace."""
    return {
        "step": step.report.version,
        "policy_version": step.report.version,
        "time_s": step.time_s,
        "time/step_s": step.wall_s,
        **_rewards(step.summaries),
        **_groups(step, config),
        **_tokens(step, config),
        "staleness/mean": step.ages.mean,
        "staleness/max": step.ages.oldest,
        **_lengths(step),
        **_training(step.report.train),
        **_sync(step.report.sync),
    }


def _groups(step: FinishedStep, config: GrpoConfig) -> dict[str, float]:
    num_taken, num_used = len(step.summaries), len(step.used)
    num_masked = sum(sum(summary.is_valid) < 2 for summary in step.summaries)
    return {
        "groups/trained": num_used,
        "groups/no_signal": num_taken - num_used - num_masked,
        "groups/dropped": num_masked + len(step.surplus.finished),
        "groups/extra": num_taken - config.prompts_per_step,
        "groups/aborted": len(step.surplus.aborted),
        "groups/grader_errors": sum(s.is_valid.count(False) for s in step.summaries),
    }


def _tokens(step: FinishedStep, config: GrpoConfig) -> dict[str, float]:
    arrived = [*step.summaries, *step.surplus.finished]
    prompt = sum(s.prompt_tokens * len(step.trained[s.index]) for s in step.used)
    trained = sum(sum(lengths) for lengths in step.trained.values())
    return {
        "tokens/prompt": prompt,
        "tokens/generated": sum(summary.generated_tokens for summary in arrived),
        "tokens/aborted": sum(map(sum, step.surplus.aborted.values())),
        "tokens/trained": trained,
        **throughput_metrics(
            prompt_tokens=prompt,
            generated_tokens=trained,
            wall_s=step.wall_s,
            num_devices=config.num_devices,
        ),
    }


def _lengths(step: FinishedStep) -> dict[str, float]:
    taken = [length for summary in step.summaries for length in summary.lengths]
    finished = [length for summary in step.surplus.finished for length in summary.lengths]
    aborted = [length for lengths in step.surplus.aborted.values() for length in lengths]
    is_cut = [flag for summary in step.summaries for flag in summary.is_truncated]
    return {
        "completion_length/mean": fmean(taken),
        "completion_length/taken_over_begun": fmean(taken) / fmean([*taken, *finished, *aborted]),
        "completion_length/truncated_rate": fmean(is_cut),
    }


def _training(report: TrainReport) -> dict[str, float]:
    return {
        "loss": report.loss,
        "grad_norm": report.grad_norm,
        "lr": report.lr,
        "entropy": report.entropy,
        "kl": report.kl,
        "clip_fraction": report.clip_fraction,
        "mismatch/kl": report.mismatch_kl,
        "mismatch/max_ratio": report.max_ratio,
        "mismatch/truncated_share": report.truncated_share,
        "mismatch/logprob_difference": report.logprob_difference,
        "mismatch/current_difference": report.current_difference,
        "tokens/current": report.num_current,
        "tokens/loss": report.num_tokens,
        "time/learner_s": report.seconds,
    }


def _sync(report: SyncReport) -> dict[str, float]:
    return {
        "time/sync_s": report.seconds,
        "sync/mib": report.num_bytes / MIB,
        "sync/buckets": report.num_buckets,
        "sync/verified": float(report.is_verified),
    }


_SCORES = ("reward/mean", "reward_std/group_mean", "f1/entities", "f1/relations", "json_valid_rate")


def _rewards(summaries: Sequence[GroupSummary]) -> dict[str, float]:
    valid = [
        [r for r, ok in zip(s.rewards, s.is_valid, strict=True) if ok]
        for s in summaries
        if any(s.is_valid)
    ]
    if not valid:
        return dict.fromkeys(_SCORES, 0.0)
    names = sorted({name for s in summaries for name in s.parts})
    num_valid = sum(len(rewards) for rewards in valid)
    counts = sum((s.total_counts for s in summaries), GraphCounts())
    parts = {
        f"reward/{name}": sum(s.parts.get(name, 0.0) * sum(s.is_valid) for s in summaries)
        / num_valid
        for name in names
    }
    return {
        "reward/mean": sum(map(sum, valid)) / num_valid,
        **parts,
        "reward_std/group_mean": fmean(pstdev(rewards) for rewards in valid),
        "f1/entities": counts.entities.f1,
        "f1/relations": counts.relations.f1,
        "json_valid_rate": sum(sum(s.graded(s.has_graph)) for s in summaries) / num_valid,
    }
