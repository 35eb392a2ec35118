"""Folder or hub name -> a tokenizer; token ids of completions -> their texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t2g_ray.model.source import reading


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model folder or hub name. Raises ValueError where there is none."""
    from transformers import AutoTokenizer

    with reading(model):
        return AutoTokenizer.from_pretrained(model, trust_remote_code=False)


def decode(tokenizer: Any, ids: Sequence[list[int]]) -> tuple[str, ...]:
    """Text of each completion without its special tokens. Equal ones are decoded once."""
    keys = [tuple(one) for one in ids]
    distinct = dict.fromkeys(keys)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.clean_up_tokenization_spaces:
        texts = tokenizer.batch_decode([list(key) for key in distinct], skip_special_tokens=True)
    else:
        # batch_decode walks all ids in Python before it asks the backend for the same text.
        texts = [backend.decode(list(key), skip_special_tokens=True) for key in distinct]
    text_of = dict(zip(distinct, texts, strict=True))
    return tuple(text_of[key] for key in keys)
