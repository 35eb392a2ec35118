"""RewardActor: groups by reference, and the records to grade them against, in; rewards out.

The driver sees the summary only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import ray

from t2g_ray.config import RewardSpec
from t2g_ray.rewards.custom import CustomRewards
from t2g_ray.rewards.group import sample_line, score_group
from t2g_ray.run.jsonlines import JsonLine
from t2g_ray.run.timing.startup import note_loaded, take_spans
from t2g_ray.run.trace import Span, Tracer
from t2g_ray.types import Group, GroupSummary, Record, ScoredGroup

QUESTIONS = "questions"
"""Concurrency group of calls that must not wait for a score."""


Method = TypeVar("Method", bound=Callable[..., object])
GoldRecords = Mapping[int, Record]
"""Index of a prompt -> the record that its completions are graded against."""


def _question(method: Method) -> Method:
    """Let a method be answered while a group is scored."""
    marked: Any = ray.method(concurrency_group=QUESTIONS)
    return cast(Method, marked(method))


class RewardActor:
    """Scores groups with one tokenizer and one reward specification.

    The driver's own tokenizer comes as it is: to look for its class here would load torch.

    The user's own functions run in processes of this actor; `folder` is where they are looked up
    first. QUESTIONS are answered while a group is scored.
    """

    def __init__(
        self, number: int, tokenizer: Any, spec: RewardSpec, thinking: bool, folder: str
    ) -> None:
        note_loaded()
        self._tokenizer = tokenizer
        self._spec = spec
        self._thinking = thinking
        self._custom = CustomRewards(spec.custom, folder) if spec.custom else None
        self._tracer = Tracer(f"reward/{number}")

    def score(
        self, gold: GoldRecords, *groups: Group
    ) -> tuple[list[GroupSummary] | ScoredGroup, ...]:
        """Grade groups by the records of their prompts, which are among `gold`.

        Returns one more object than groups: first the list of summaries for the loop, then each
        scored group for the learner.
        """
        with self._tracer.span("score", step=groups[0].prompt.index, groups=len(groups)):
            results = [
                score_group(
                    group,
                    gold[group.prompt.index],
                    self._tokenizer,
                    self._spec,
                    thinking=self._thinking,
                    custom=self._custom,
                )
                for group in groups
            ]
        return [summary for summary, _ in results], *(scored for _, scored in results)

    @_question
    def best_sample(self, scored: ScoredGroup, record: Record) -> JsonLine:
        """The best completion of a group, as a line of samples.jsonl."""
        best = max(range(len(scored.rewards)), key=lambda i: scored.rewards[i].total)
        reward, index = scored.rewards[best], scored.group.prompt.index
        line = sample_line(index, record, scored.texts[best], thinking=self._thinking)
        return {**line, "reward": reward.total, "parts": dict(reward.parts)}

    @_question
    def drain_spans(self) -> list[Span]:
        """Spans since the last call."""
        return [*take_spans(self._tracer.actor), *self._tracer.drain()]

    @_question
    def node(self) -> str:
        """Id of the node this actor runs on."""
        return str(ray.get_runtime_context().get_node_id())


def reward_actor_class() -> Any:
    """RewardActor as a class that Ray can make."""
    remote: Any = ray.remote  # whose annotations leave concurrency groups out
    return remote(concurrency_groups={QUESTIONS: 1})(RewardActor)
