"""Configuration -> prompts, engines and groups as a run would have them, without running one."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from t2g_ray.config import GrpoConfig
from t2g_ray.graph import Graph
from t2g_ray.prompts.load import encode_prompts, likely_answers, load_split
from t2g_ray.prompts.order import PromptOrder
from t2g_ray.types import Completion, Group, Prompt, Record, Reward, ScoredGroup


def first_prompts(config: GrpoConfig, tokenizer: Any, count: int) -> list[tuple[Prompt, Record]]:
    """The first `count` prompts of a run with their records; these repeat as in later epochs."""
    pairs, _ = encode_prompts(tokenizer, load_split(config, "train"), config.prompt)
    order = PromptOrder(len(pairs), config.data_seed)
    chosen = [pairs[order.record_index(position)] for position in range(count)]
    likely = likely_answers(tokenizer, [record for record, _ in chosen], config.prompt)
    return [
        (Prompt(index=index, token_ids=ids, likely_ids=likely[index]), record)
        for index, (record, ids) in enumerate(chosen)
    ]


def written_groups(
    prompts: Sequence[tuple[Prompt, Record]],
    tokenizer: Any,
    *,
    group_size: int,
    seed: int,
    num_tokens: int | None = None,
) -> list[Group]:
    """Groups like those of a half-trained policy: the gold graph with items left out.

    With `num_tokens` every completion is that long: its graph over and over, then cut.
    """
    rng = Random(seed)

    def answer(record: Record) -> list[int]:
        ids = _answer_ids(tokenizer, record.graph, rng)
        return ids if num_tokens is None else (ids * num_tokens)[:num_tokens]

    return [
        Group(
            prompt=prompt,
            completions=tuple(completion_of(answer(record)) for _ in range(group_size)),
            sampler=0,
            generate_s=0.0,
        )
        for prompt, record in prompts
    ]


def completion_of(token_ids: Sequence[int]) -> Completion:
    """A finished completion of these tokens, with made-up log-probs."""
    num_tokens = len(token_ids)
    return Completion(
        token_ids=np.asarray(token_ids, dtype=np.int32),
        logprobs=np.full(num_tokens, -0.5, dtype=np.float32),
        versions=np.zeros(num_tokens, dtype=np.int32),
        finish_reason="stop",
    )


def _answer_ids(tokenizer: Any, gold: Graph, rng: Random) -> list[int]:
    graph = Graph(
        tuple(entity for entity in gold.entities if rng.random() < 0.9),
        tuple(relation for relation in gold.relations if rng.random() < 0.8),
    )
    ids: list[int] = tokenizer(graph.to_json(), add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def ungraded(group: Group) -> ScoredGroup:
    """The group as a learner takes it, for measurements that need no rewards."""
    reward = Reward(
        total=0.0,
        parts={},
        tag="score",
        parse="ok",
        entities=(0, 0, 0),
        relations=(0, 0, 0),
        near=(0.0, 0.0),
    )
    size = len(group.completions)
    return ScoredGroup(group=group, rewards=(reward,) * size, texts=("",) * size)
