"""Records -> examples -> the batch of each step.

Invariants: nothing is cut; records are only read; the batch of a step is a pure function of the
seed and the step, so that a resumed run is the same run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2g_ray.config import PromptConfig
from t2g_ray.prompts.load import answer_to, encode_prompts
from t2g_ray.prompts.order import PromptOrder
from t2g_ray.records.jsonl import THINKING_KEY
from t2g_ray.types import Example, Record

WINDOW_STEPS = 16
"""Steps whose records are sorted by length together: batches of one length need little padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Examples of the records that fit, and how many did not."""

    examples: tuple[Example, ...]
    num_long_prompts: int
    num_long_answers: int


def encode_examples(
    tokenizer: Any,
    records: Sequence[Record],
    prompt: PromptConfig,
    *,
    max_positions: int | None,
    token_budget: int,
) -> Encoded:
    """One example a record: prompt ids, and the answer's ids with the end token.

    Answers that pass the model's positions are counted and left out. Raises ValueError when
    nothing is left, when an example passes the token budget, and when reasoning is wanted of a
    record that has none.
    """
    prompts, num_long_prompts = encode_prompts(tokenizer, records, prompt)
    limit = math.inf if max_positions is None else max_positions
    examples: list[Example] = []
    for record, prompt_ids in prompts:
        answer = answer_to(tokenizer, record, _reasoning(record) if prompt.thinking else None)
        length = len(prompt_ids) + len(answer)
        if length > limit:
            continue
        if length > token_budget:
            raise ValueError(
                f"prompt and answer must fit learner.token_budget={token_budget}, found {length} "
                f"tokens for the record {record.text[:60]!r}; raise learner.token_budget"
            )
        examples.append(
            Example(
                group=len(examples),
                prompt_ids=prompt_ids,
                completion_ids=np.asarray(answer, dtype=np.int32),
            )
        )
    if not examples:
        raise ValueError(
            f"at least one record must fit the model's {max_positions} positions with its "
            f"answer, found none among {len(prompts)}; use shorter texts or another model"
        )
    return Encoded(
        examples=tuple(examples),
        num_long_prompts=num_long_prompts,
        num_long_answers=len(prompts) - len(examples),
    )


def _reasoning(record: Record) -> str:
    text = record.extra.get(THINKING_KEY)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            f"with prompt.thinking=true every record must have a text under {THINKING_KEY!r}, "
            f"found none for {record.text[:60]!r}; add it or set prompt.thinking=false"
        )
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class SftData:
    """The batches of a run. Over all steps each record comes once an epoch."""

    examples: Sequence[Example]
    batch_size: int
    num_steps: int
    seed: int

    def follows(self, step: int, num_steps: int) -> bool:
        """Whether what these data hold from `step` on is what a run of `num_steps` had left."""
        first = step - step % WINDOW_STEPS
        return step == first or _num_in_window(first, num_steps) == _num_in_window(
            first, self.num_steps
        )

    def batch(self, step: int) -> list[Example]:
        """The examples of `step` (from 0).

        The records of a window of steps are sorted by length and dealt to its steps in seeded
        order. A window ends with the run, so that no record of it is missed.
        """
        window = step // WINDOW_STEPS
        first = window * WINDOW_STEPS
        num_steps = _num_in_window(first, self.num_steps)
        order = PromptOrder(len(self.examples), self.seed)
        positions = range(first * self.batch_size, (first + num_steps) * self.batch_size)
        members = sorted(
            (self.examples[order.record_index(position)] for position in positions), key=num_tokens
        )
        turn = int(np.random.default_rng((self.seed, window)).permutation(num_steps)[step - first])
        return members[turn * self.batch_size : (turn + 1) * self.batch_size]


def _num_in_window(first: int, num_steps: int) -> int:
    return min(WINDOW_STEPS, num_steps - first)


def num_tokens(example: Example) -> int:
    """Tokens of prompt and answer."""
    return len(example.prompt_ids) + len(example.completion_ids)


def num_answer_tokens(examples: Sequence[Example]) -> int:
    """Tokens that carry loss."""
    return sum(len(example.completion_ids) for example in examples)
