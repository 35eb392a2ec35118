"""A group of completions -> rewards, texts and the summary that the loop sees.

Invariant: every completion gets one finite reward with a tag; one whose grader failed is marked
so that it is masked, and never counts as a 0.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from t2g_ray.config import RewardSpec
from t2g_ray.graph.counts import Counts, GraphCounts
from t2g_ray.graph.parsing import parse_completion
from t2g_ray.model.tokenizer import decode
from t2g_ray.rewards.completion import grade_all
from t2g_ray.rewards.custom import CustomRewards
from t2g_ray.run.jsonlines import JsonLine
from t2g_ray.types import Group, GroupSummary, IntArray, Record, Reward, ScoredGroup


def score_group(
    group: Group,
    record: Record,
    tokenizer: Any,
    spec: RewardSpec,
    *,
    thinking: bool,
    custom: CustomRewards | None = None,
) -> tuple[GroupSummary, ScoredGroup]:
    """Decode all completions of a group and grade them against the record of its prompt.

    Special tokens are not part of a text. `custom` runs the functions that `spec.custom` names.
    """
    started = time.time()
    texts = decode(tokenizer, [completion.token_ids.tolist() for completion in group.completions])
    rewards = grade_all(
        texts,
        record,
        spec,
        thinking=thinking,
        num_tokens=[len(completion.token_ids) for completion in group.completions],
    )
    if custom is not None:
        rewards = custom.add(rewards, texts, record, thinking=thinking)
    scored = ScoredGroup(group=group, rewards=tuple(rewards), texts=texts)
    return summarise(scored, spec, score_s=time.time() - started), scored


def summarise(scored: ScoredGroup, spec: RewardSpec, *, score_s: float) -> GroupSummary:
    """The numbers of a scored group, its completions whose grader failed left out of the sums."""
    group, rewards = scored.group, scored.rewards
    is_valid = tuple(reward.tag in ("score", "invalid_output") for reward in rewards)
    valid = [reward for reward, ok in zip(rewards, is_valid, strict=True) if ok]
    versions = np.concatenate([completion.versions for completion in group.completions])
    return GroupSummary(
        index=group.prompt.index,
        rewards=tuple(reward.total for reward in rewards),
        base=tuple(spec.without_f1(reward.parts) for reward in rewards),
        counts=tuple(GraphCounts(Counts(*r.entities), Counts(*r.relations)) for r in rewards),
        near=tuple(reward.near for reward in rewards),
        has_graph=tuple(reward.tag == "score" for reward in rewards),
        is_valid=is_valid,
        lengths=tuple(len(completion.token_ids) for completion in group.completions),
        prompt_tokens=len(group.prompt.token_ids),
        is_truncated=tuple(c.finish_reason == "length" for c in group.completions),
        min_version=int(versions.min()),
        max_version=int(versions.max()),
        tokens_by_version=_count(
            [c.versions for c, ok in zip(group.completions, is_valid, strict=True) if ok]
        ),
        parts=_mean_parts(valid),
        sampler=group.sampler,
        generate_s=group.generate_s,
        score_s=score_s,
    )


def _count(versions: Sequence[IntArray]) -> dict[int, int]:
    if not versions:
        return {}
    values, counts = np.unique(np.concatenate(versions), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _mean_parts(rewards: Sequence[Reward]) -> dict[str, float]:
    names = sorted({name for reward in rewards for name in reward.parts})
    return {name: sum(r.parts[name] for r in rewards) / len(rewards) for name in names}


def sample_line(index: int, record: Record, text: str, *, thinking: bool) -> JsonLine:
    """What samples.jsonl keeps of a completion, beside its reward and when it was written."""
    outcome = parse_completion(text, thinking=thinking)
    return {
        "prompt_index": index,
        "text": record.text,
        "entity_types": list(record.entity_types),
        "relation_types": list(record.relation_types),
        "gold": record.graph.to_dict(),
        "completion": text,
        "predicted": outcome.graph.to_dict() if outcome.graph is not None else None,
        "parse": outcome.kind,
    }
