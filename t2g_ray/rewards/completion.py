"""Completions of one record -> a finite reward each, with its named parts.

Invariant: a fault of a part is never a reward. `score_completion` raises it, and `grade_all`, the
one place that catches it, tags it "grader_error".
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from t2g_ray.config import RewardSpec
from t2g_ray.config.rewards import PENALTIES
from t2g_ray.graph.parsing import ParseFailure
from t2g_ray.rewards.answer import Gold, read_answer
from t2g_ray.rewards.parts import PARTS
from t2g_ray.types import Record, Reward, RewardTag

_logger = logging.getLogger(__name__)


def score_completion(
    text: str, record: Record, spec: RewardSpec, *, thinking: bool = False, num_tokens: int = 0
) -> Reward:
    """Grade one completion. The format part is left out unless `thinking`.

    Tagged "invalid_output" when no graph was found (every score is 0.0), else "score".
    `num_tokens` is its length where known. Raises whatever a part raises, and ValueError for a
    part outside its range.
    """
    return _grade(text, Gold.of(record), spec, thinking=thinking, num_tokens=num_tokens)


def grade(text: str, record: Record, spec: RewardSpec, *, thinking: bool = False) -> Reward:
    """`grade_all` of one completion."""
    return grade_all([text], record, spec, thinking=thinking, num_tokens=[0])[0]


def grade_all(
    texts: Sequence[str],
    record: Record,
    spec: RewardSpec,
    *,
    thinking: bool,
    num_tokens: Sequence[int],
) -> list[Reward]:
    """`score_completion` of each, behind the boundary that keeps a run alive.

    A fault of the scorer is logged and comes back as a `masked_reward`. Equal completions, of
    which a group has many, are graded once.
    """
    gold = Gold.of(record)
    keys = list(zip(texts, num_tokens, strict=True))
    graded: dict[tuple[str, int], Reward] = {}
    for text, length in dict.fromkeys(keys):
        try:
            graded[text, length] = _grade(text, gold, spec, thinking=thinking, num_tokens=length)
        except Exception:
            _logger.exception("the grader failed on a completion of %d characters", len(text))
            graded[text, length] = masked_reward("grader_error")
    return [graded[key] for key in keys]


def masked_reward(tag: RewardTag) -> Reward:
    """The reward of a completion that could not be graded.

    Its total of 0.0 only keeps the field finite: consumers must mask or retry the completion,
    never train on it.
    """
    return Reward(
        total=0.0,
        parts={},
        tag=tag,
        parse="unknown",
        entities=(0, 0, 0),
        relations=(0, 0, 0),
        near=(0.0, 0.0),
    )


def _grade(text: str, gold: Gold, spec: RewardSpec, *, thinking: bool, num_tokens: int) -> Reward:
    asks_near = not spec.weights.keys().isdisjoint(("soft_entities", "soft_relations"))
    answer = read_answer(text, gold, thinking=thinking, num_tokens=num_tokens, with_near=asks_near)
    parts: dict[str, float] = {}
    total = 0.0
    for name, weight in spec.weights.items():
        if name == "format" and not thinking:
            continue
        value = parts[name] = PARTS[name](answer, spec.shaping)
        low = -1.0 if name in PENALTIES else 0.0
        if not low <= value <= low + 1.0:  # NaN fails this too
            raise ValueError(
                f"the reward part {name} must lie in [{low:g}, {low + 1:g}], found {value}"
            )
        total += weight * value
    return Reward(
        total=total,
        parts=parts,
        tag="invalid_output" if isinstance(answer.outcome, ParseFailure) else "score",
        parse=answer.outcome.kind,
        entities=answer.entity_match.counts.as_tuple(),
        relations=answer.relation_match.counts.as_tuple(),
        near=answer.near,
    )
