"""A saved model and records -> greedy completion texts, by one vLLM engine in this process.

Invariant: texts come in the order of the records, one each. A record whose prompt does not fit
has the empty text and is counted: it is never cut and never left out of the figures.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from t2g_ray.graph.constrained import close_graph, graph_grammar
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.messages import fitting_prompts
from t2g_ray.run.device.installed import installed_device
from t2g_ray.types import Completion, Prompt, Record

if TYPE_CHECKING:
    from t2g_ray.config import PromptConfig
    from t2g_ray.rollout.engine import GenerationEngine
    from t2g_ray.rollout.spec import EngineSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One text and its length in tokens for each record, and how many did not fit."""

    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    num_too_long: int
    """Records whose prompt did not fit: their text is empty."""
    num_cut: int
    """Completions that ended at the length limit."""
    num_closed: int
    """Those of them that are graphs only because their unfinished end was taken away."""


def generate_texts(
    engine: GenerationEngine,
    tokenizer: Any,
    records: Sequence[Record],
    prompt: PromptConfig,
    max_new_tokens: int,
    *,
    is_constrained: bool = False,
) -> Generated:
    """Write one greedy completion for each record.

    `is_constrained` holds the output to the grammar of the record's types. An answer that reaches
    `max_new_tokens` then keeps its complete items, so every answer is a graph; it is counted.
    """
    from t2g_ray.rollout.spec import Sampling

    max_prompt_tokens = min(prompt.max_tokens, engine.spec.max_model_len - max_new_tokens)
    fitting = prompt.model_copy(update={"max_tokens": max_prompt_tokens})
    for index, token_ids in fitting_prompts(tokenizer, records, fitting):
        record = records[index]
        sampling = Sampling(
            group_size=1,
            temperature=0.0,
            max_new_tokens=max_new_tokens,
            grammar=graph_grammar(record.entity_types, record.relation_types)
            if is_constrained
            else None,
        )
        prompt_of_record = Prompt(index=index, token_ids=token_ids, purpose="eval")
        engine.add(prompt_of_record, sampling)
    answers: dict[int, Completion] = {}
    while engine.is_busy:
        answers.update((group.prompt.index, group.completions[0]) for group in engine.step())
    ids = [answers[i].token_ids.tolist() if i in answers else [] for i in range(len(records))]
    texts = [tokenizer.decode(one, skip_special_tokens=True) for one in ids]
    if not answers:
        raise ValueError(
            f"at least one prompt must fit the model's context, found none among {len(records)} "
            "records; a model trained with short prompts needs --style compact"
        )
    cut = {index for index, answer in answers.items() if answer.finish_reason == "length"}
    closed = [
        close_graph(text) if is_constrained and index in cut else text
        for index, text in enumerate(texts)
    ]
    return Generated(
        texts=tuple(closed),
        lengths=tuple(len(one) for one in ids),
        num_too_long=len(records) - len(answers),
        num_cut=len(cut),
        num_closed=sum(text != whole for text, whole in zip(texts, closed, strict=True)),
    )


def local_spec(model: str, *, max_prompt_tokens: int, max_new_tokens: int) -> EngineSpec:
    """An engine for this machine: its first GPU, or with the CPU set all its cores.

    The context is no longer than asked for, and never longer than the model's positions. Raises
    ValueError when the completions alone exceed that.
    """
    import torch
    from transformers import AutoConfig

    from t2g_ray.rollout.spec import EngineSpec

    config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    max_positions = int(config.max_position_embeddings)
    if max_new_tokens >= max_positions:
        raise ValueError(
            f"max_new_tokens must be below the {max_positions} positions of {model}, found "
            f"{max_new_tokens}; lower it"
        )
    num_gpus = int(installed_device() == "cuda")
    own_dtype = str(config.dtype or torch.float32).removeprefix("torch.")
    return EngineSpec(
        model=model,
        dtype="auto" if num_gpus else own_dtype,
        max_model_len=min(max_positions, max_prompt_tokens + max_new_tokens),
        max_sequences=64,
        threads=len(os.sched_getaffinity(0)),
        gpus=num_gpus,
        tensor_parallel=1,
        kv_cache_gib=2.0,
        gpu_memory_utilization=0.85,
        seed=0,
        sampler=0,
        load_weights=True,
        more={
            "use_tqdm_on_load": False,
            # The canonical form only: where spaces are free, a weak policy might write nothing but
            # spaces.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        },
    )


def answer_records(
    model: str,
    records: Sequence[Record],
    prompt: PromptConfig,
    max_new_tokens: int,
    *,
    is_constrained: bool,
) -> Generated:
    """`generate_texts` with a model folder or hub name; starts and ends the engine.

    Raises ValueError for a model that cannot be read or has too few positions.
    """
    from t2g_ray.rollout.engine import GenerationEngine

    tokenizer = load_tokenizer(model)
    spec = local_spec(model, max_prompt_tokens=prompt.max_tokens, max_new_tokens=max_new_tokens)
    engine = GenerationEngine(spec)
    try:
        return generate_texts(
            engine, tokenizer, records, prompt, max_new_tokens, is_constrained=is_constrained
        )
    finally:
        engine.close()
