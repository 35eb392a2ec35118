"""Scored groups and advantages -> the samples of one rank.

Invariant: the sampler's ids, log-probs and versions pass through unchanged, and a masked
completion gives no sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2g_ray.types import Sample, ScoredGroup


def to_samples(
    groups: Sequence[ScoredGroup], advantages: Sequence[Sequence[float | None]]
) -> list[Sample]:
    """One sample for each completion that has an advantage; `advantages` is [groups][G]."""
    samples: list[Sample] = []
    for scored, values in zip(groups, advantages, strict=True):
        group = scored.group
        for completion, advantage in zip(group.completions, values, strict=True):
            if advantage is None:
                continue
            samples.append(
                Sample(
                    group=group.prompt.index,
                    prompt_ids=group.prompt.token_ids,
                    completion_ids=completion.token_ids,
                    sampler_logprobs=completion.logprobs,
                    versions=completion.versions,
                    advantage=advantage,
                )
            )
    return samples
