"""RewardActor: groups in by reference, rewards out. The driver sees the summary only."""

from __future__ import annotations

from typing import Any

import ray

from t2g_ray.config import RewardSpec
from t2g_ray.rewards.custom import CustomRewards
from t2g_ray.rewards.group import score_group
from t2g_ray.run.trace import Span, Tracer
from t2g_ray.types import Group, GroupSummary, ScoredGroup

QUESTIONS = "questions"
"""Concurrency group of calls that must not wait for a score."""


class RewardActor:
    """Scores groups with one tokenizer and one reward specification.

    The user's own functions run in processes of this actor; `folder` is where they are looked up
    first. QUESTIONS are answered while a group is scored.
    """

    def __init__(
        self, number: int, tokenizer_path: str, spec: RewardSpec, thinking: bool, folder: str
    ) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(tokenizer_path, trust_remote_code=False)
        self._spec = spec
        self._thinking = thinking
        self._custom = CustomRewards(spec.custom, folder) if spec.custom else None
        self._tracer = Tracer(f"reward/{number}")

    def score(self, *groups: Group) -> tuple[list[GroupSummary] | ScoredGroup, ...]:
        """One more object than groups: the small ones for the loop as a list, then each whole
        one for the learner."""
        with self._tracer.span("score", step=groups[0].prompt.index, groups=len(groups)):
            results = [
                score_group(
                    group,
                    self._tokenizer,
                    self._spec,
                    thinking=self._thinking,
                    custom=self._custom,
                )
                for group in groups
            ]
        return [summary for summary, _ in results], *(scored for _, scored in results)

    @ray.method(concurrency_group=QUESTIONS)
    def drain_spans(self) -> list[Span]:
        """Trace since the last call."""
        return self._tracer.drain()

    @ray.method(concurrency_group=QUESTIONS)
    def node(self) -> str:
        """Id of the node this actor runs on."""
        return str(ray.get_runtime_context().get_node_id())


def reward_actor_class() -> Any:
    """RewardActor as Ray makes it."""
    remote: Any = ray.remote  # whose annotations leave concurrency groups out
    return remote(concurrency_groups={QUESTIONS: 1})(RewardActor)
