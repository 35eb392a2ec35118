"""The stages of the data flow, in flow order.

Record -> Prompt -> Completion -> Group -> ScoredGroup -> Sample -> StepReport

Every stage is a frozen object that is complete when it is made: no field waits for a later stage to
fill it. Axes: G completions of a group, T tokens of a completion (docs/glossary.md).

Invariant: tokens are never re-tokenised. The ids, log-probs and weight versions that the
sampler wrote are the ones that the learner reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from t2g_ray.graph import Graph
from t2g_ray.graph.counts import GraphCounts

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]

Value = TypeVar("Value")
FinishReason = Literal["stop", "length"]
Purpose = Literal["train", "eval"]
RewardTag = Literal["score", "invalid_output", "grader_error", "timeout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A text, the wanted types and the gold graph.

    Example: Record(text="Ann works for Acme.", entity_types=("person", "company"),
    relation_types=("works for",), graph=Graph(...)). `extra` keeps the other keys of the row.
    """

    text: str
    entity_types: tuple[str, ...]
    relation_types: tuple[str, ...]
    graph: Graph
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A record as the policy reads it; its gold graph goes to the reward actor alone.

    `index` is its position in the stream of training prompts, or its number in an evaluation.
    `likely_ids` are a guess at the answer; a good one only makes generation faster. Example:
    Prompt(index=17, token_ids=(1, 52, 9)).
    """

    index: int
    token_ids: tuple[int, ...]
    likely_ids: tuple[int, ...] = ()
    purpose: Purpose = "train"

    @property
    def key(self) -> str:
        """`prompt_key` of this prompt."""
        return prompt_key(self.purpose, self.index)


def prompt_key(purpose: Purpose, index: int) -> str:
    """A name for a prompt that is unique over both purposes, such as "train 17"."""
    return f"{purpose} {index}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completion:
    """What the sampler wrote for one prompt: ids, log-probs and weight versions, each [T].

    `logprobs` are those of the distribution sampled from (temperature applied), in nats.
    The end token is part of `token_ids` when `finish_reason` is "stop".
    Example: token_ids=[5, 9, 2], logprobs=[-0.1, -0.7, -0.0], versions=[3, 3, 4].
    """

    token_ids: IntArray
    logprobs: FloatArray
    versions: IntArray
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """All G completions of one prompt; complete or absent, never partial.

    Example: Group(prompt=prompt, completions=(c0, c1), sampler=0, generate_s=0.4).
    """

    prompt: Prompt
    completions: tuple[Completion, ...]
    sampler: int
    generate_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """One finite number for one completion, its parts, and how it came about.

    `parts` holds each named part before weighting. `entities` and `relations` are the
    exact (tp, fp, fn) counts against the gold graph, kept apart from any shaping; `near` is the
    credit for near misses of either, 0 where no part asks for it.
    Example: Reward(total=1.5, parts={"json": 1.0, "f1_entities": 0.5}, tag="score",
    parse="ok", entities=(1, 1, 1), relations=(0, 0, 1), near=(0.5, 0.0)).
    """

    total: float
    parts: Mapping[str, float]
    tag: RewardTag
    parse: str
    entities: tuple[int, int, int]
    relations: tuple[int, int, int]
    near: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredGroup:
    """A group with one reward and one decoded text for each completion, [G] each.

    Example: ScoredGroup(group=group, rewards=(r0, r1), texts=("{...}", "{...}")).
    """

    group: Group
    rewards: tuple[Reward, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """The numbers of a scored group: all that the loop sees of it, in a few hundred bytes.

    Lists are [G]. `is_valid[i]` is False where the grader failed, so that the reward must not be
    used. Example: GroupSummary(index=17, rewards=(1.5, 0.2), f1=(0.8, 0.0), is_valid=(True, True),
    ...).
    """

    index: int
    rewards: tuple[float, ...]
    base: tuple[float, ...]
    """The rewards without their F1 parts, which a batch may price anew."""
    counts: tuple[GraphCounts, ...]
    """Exact counts, of no meaning where not `is_valid`."""
    near: tuple[tuple[float, float], ...]
    """Credit for near misses of entities and of relations."""
    has_graph: tuple[bool, ...]
    is_valid: tuple[bool, ...]
    lengths: tuple[int, ...]
    prompt_tokens: int
    is_truncated: tuple[bool, ...]
    """Whether the completion ended at the length limit."""
    min_version: int
    max_version: int
    tokens_by_version: Mapping[int, int]
    """Tokens of the graded completions by the version that wrote them."""
    parts: Mapping[str, float]
    """Mean of each reward part over the graded completions."""
    sampler: int
    generate_s: float
    score_s: float

    def graded(self, values: Sequence[Value]) -> list[Value]:
        """The `values`, one for each completion, of those completions that were graded."""
        return [value for value, ok in zip(values, self.is_valid, strict=True) if ok]

    @property
    def f1(self) -> tuple[float, ...]:
        """Exact F1 over entities and relations together, before any shaping: what filters look at,
        where `is_valid`."""
        return tuple((counts.entities + counts.relations).f1 for counts in self.counts)

    @property
    def total_counts(self) -> GraphCounts:
        """Exact counts over the graded completions."""
        return sum(self.graded(self.counts), GraphCounts())

    @property
    def generated_tokens(self) -> int:
        """Tokens that the sampler wrote for this group."""
        return sum(self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One completion as the learner trains on it.

    Samples of one group share `group` and the same prompt ids, so that the learner can
    compute the prompt once. Example: Sample(group=17, prompt_ids=(1, 52, 9),
    completion_ids=[5, 9, 2], sampler_logprobs=[...], versions=[3, 3, 4], advantage=0.8).
    """

    group: int
    prompt_ids: tuple[int, ...]
    completion_ids: IntArray
    sampler_logprobs: FloatArray
    versions: IntArray
    advantage: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """A record as SFT trains on it: the prompt, and the answer with its end token.

    `group` numbers the examples; no two share a prompt. Example: Example(group=3, prompt_ids=(1,
    52, 9), completion_ids=[5, 9, 2]).
    """

    group: int
    prompt_ids: tuple[int, ...]
    completion_ids: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """What the learner ranks did in one step of GRPO, means over its trained tokens.

    With several updates a batch, the means are over all updates. Log-probs, entropy and KL are in
    nats.
    """

    loss: float
    grad_norm: float
    """Global norm of the gradient before it was clipped, mean over the updates."""
    lr: float
    entropy: float
    kl: float
    """KL to the reference policy; 0 where none is asked for."""
    clip_fraction: float
    """Share of the tokens whose probability ratio was clipped."""
    logprob_difference: float
    """|learner's log-prob - sampler's| of the same token."""
    current_difference: float
    """The parity figure: the same over completions of the present weights alone; 0 without any."""
    num_current: int
    """Those tokens, in one update."""
    mismatch_kl: float
    """KL(sampler, learner), estimated."""
    max_ratio: float
    """Largest learner over sampler probability of a token, either way up."""
    truncated_share: float
    """Share of the tokens whose importance weight was bounded."""
    num_tokens: int
    """Tokens in the loss of one update."""
    seconds: float

    @property
    def older_difference(self) -> float:
        """`logprob_difference` over the tokens that older weights wrote; 0 without any."""
        total = self.logprob_difference * self.num_tokens
        rest = total - self.current_difference * self.num_current
        return rest / max(1, self.num_tokens - self.num_current)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What it took to send a version to the samplers."""

    seconds: float
    num_bytes: int
    num_buckets: int
    is_verified: bool
    """Whether all tensors were compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step of the loop did.

    Example: StepReport(version=4, train=TrainReport(loss=0.1, ...), sync=SyncReport(...)).
    """

    version: int
    train: TrainReport
    sync: SyncReport
