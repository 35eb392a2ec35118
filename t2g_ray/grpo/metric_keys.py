"""The keys that every line of metrics.jsonl holds in GRPO, with their units.

`step_line` makes the lines; docs/metrics.md shows this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MetricKey:
    """What a key of metrics.jsonl measures and in which unit."""

    unit: str
    meaning: str


_TABLE = """
step | steps | optimiser steps taken, this one included
policy_version | versions | weight version that the samplers hold after the step
time_s | s | wall-clock time since the run started
reward/mean | reward | mean total reward of the scored completions
reward/<name> | reward | mean of one reward part before weighting
reward_std/group_mean | reward | standard deviation of rewards inside a group, mean over groups
f1/entities | share | exact micro F1 of entities over the completions of the step
f1/relations | share | exact micro F1 of relations over the completions of the step
json_valid_rate | share | completions that parse to a graph
groups/trained | groups | groups that gave gradient
groups/no_signal | groups | groups with equal rewards, counted and not trained
groups/dropped | groups | groups given up: their grader failed, or the step had enough
groups/grader_errors | completions | completions whose grader failed, which were not trained
groups/extra | groups | groups taken in place of those without signal, beyond prompts_per_step
groups/aborted | groups | groups cut unfinished, because the step had enough
tokens/prompt | tokens | prompt tokens of trained samples
tokens/generated | tokens | generated tokens of the completions that arrived
tokens/trained | tokens | generated tokens of trained samples
tokens/aborted | tokens | tokens of completions that were cut unfinished
tokens/per_pass | tokens | growth of a completion in a pass of the model; guesses raise it
throughput/tokens_per_s | tokens/s | tokens/prompt + tokens/trained over wall-clock, waits included
throughput/generated_tokens_per_s | tokens/s | tokens/trained over wall-clock, waiting included
throughput/tokens_per_s_per_device | tokens/s | throughput/tokens_per_s over all devices of the run
rollout/actors | actors | rollout actors that work for the run
time/step_s | s | wall-clock time since the end of the step before
time/generate_s | s | time in which at least one sampler generated
time/reward_s | s | time in which at least one reward actor scored
time/train_s | s | time of the learner's step
time/sync_s | s | time of the weight sync
time/rollout_wait_s | s | time in which the learner waited for groups
time/backpressure_s | s | time in which samplers were held back: no work, no group waited for
idle/learner | share | share of wall-clock in which the learner did not train or sync
idle/samplers | share | share of wall-clock in which samplers did not generate, mean over them
staleness/mean | versions | age of the trained tokens' weights, mean over tokens
staleness/max | versions | age of the oldest trained token's weights
mismatch/kl | nats | KL(sampler, learner) of the sampled tokens, estimated
mismatch/max_ratio | ratio | largest learner over sampler probability of a token, either way up
loss | loss | policy loss of the step
grad_norm | norm | global gradient norm before clipping
entropy | nats | entropy of the policy, mean over generated tokens
kl | nats | KL to the reference policy, mean over generated tokens
clip_fraction | share | tokens whose probability ratio was clipped
completion_length/mean | tokens | generated tokens per completion
completion_length/taken_over_begun | ratio | mean length taken over that of all begun, cut ones too
completion_length/truncated_rate | share | completions that ended at the length limit
faults/tracker | faults | how often a tracker failed since the run began; 0 where there is none
"""


def _metric_keys() -> dict[str, MetricKey]:
    rows = [row.split(" | ") for row in _TABLE.strip().splitlines()]
    return {key: MetricKey(unit, meaning) for key, unit, meaning in rows}


METRIC_KEYS: dict[str, MetricKey] = _metric_keys()
"""The keys that every line holds; `<name>` stands for at least one key of that form."""


def metric_table() -> str:
    """METRIC_KEYS as a Markdown table for the documentation."""
    rows = [f"| `{key}` | {value.unit} | {value.meaning} |" for key, value in METRIC_KEYS.items()]
    return "\n".join(["| key | unit | meaning |", "|---|---|---|", *rows]) + "\n"


def missing_keys(line: Mapping[str, Any]) -> list[str]:
    """The keys of METRIC_KEYS that `line` lacks, in the order of the table."""
    return [key for key in METRIC_KEYS if not _is_present(key, line)]


def _is_present(key: str, line: Mapping[str, Any]) -> bool:
    if not key.endswith("<name>"):
        return key in line
    prefix = key.removesuffix("<name>")
    return any(name.startswith(prefix) and name not in METRIC_KEYS for name in line)
