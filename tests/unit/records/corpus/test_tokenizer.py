"""What the tokenizer of the embedded world does to text."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.records.corpus import (
    SPLITS,
    Level,
    build_tokenizer,
    generate_records,
)
from t2g_ray.types import Record

ALL_LEVELS: tuple[Level, ...] = get_args(Level)

TOKENIZER = build_tokenizer()


def prompt_of(record: Record) -> str:
    types = ", ".join(record.entity_types) + "|" + ", ".join(record.relation_types)
    return f"{types}\n{record.text}"


def encode(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False).input_ids)


@settings(deadline=None)  # a busy machine says nothing about exactness
@given(st.text())
def test_any_text_without_special_tokens_survives_encoding(text: str) -> None:
    assert TOKENIZER.decode(encode(text)) == text


def test_text_that_looks_like_a_byte_token_survives_encoding() -> None:
    text = 'Ann <0x41> \u0120 "},{"id":1,"text":" \u2581 \r\n\t\x00'
    assert TOKENIZER.decode(encode(text)) == text


@pytest.mark.parametrize("level", ALL_LEVELS)
def test_canonical_json_is_decoded_exactly_and_a_value_costs_two_tokens(level: Level) -> None:
    for record in generate_records("heldout", 100, seed=0, level=level):
        ids = encode(record.graph.to_json())
        assert TOKENIZER.decode(ids, skip_special_tokens=True) == record.graph.to_json()
        num_entities, num_relations = len(record.graph.entities), len(record.graph.relations)
        expected = 4 * num_entities + 6 * num_relations + 1
        assert len(ids) == expected


def test_a_name_is_the_same_single_token_in_the_text_and_in_the_json() -> None:
    for record in generate_records("heldout_names", 100, seed=0):
        text_ids = encode(prompt_of(record))
        for entity in record.graph.entities:
            (name_id,) = encode(entity.text)
            assert name_id in text_ids
            assert name_id in encode(record.graph.to_json())


@pytest.mark.untraced
def test_the_vocabulary_has_no_token_that_the_world_never_needs() -> None:
    assert len(TOKENIZER) < 1000
    records = [
        record for split in SPLITS for record in generate_records(split, 800, seed=0, level="hard")
    ]
    used = {
        token
        for record in records
        for token in encode(prompt_of(record)) + encode(record.graph.to_json())
    }
    unused = [
        str(TOKENIZER.decode([token]))
        for token in range(256, len(TOKENIZER) - len(TOKENIZER.all_special_ids))
        if token not in used
    ]
    # Ids beyond the longest text of the world, and phrases that never end a text.
    assert all(piece.startswith('"},{"id":') for piece in unused), unused


def test_chat_template_costs_one_token_a_turn_and_ends_answers_only() -> None:
    messages = [
        {"role": "system", "content": "person"},
        {"role": "user", "content": "city"},
        {"role": "assistant", "content": "makes"},
    ]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False)
    assert text == "<|system|>person<|user|>city<|assistant|>makes<|end|>"
    for enable_thinking in (True, False):
        prompt = TOKENIZER.apply_chat_template(
            messages[:2],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=enable_thinking,
        )
        assert prompt == "<|system|>person<|user|>city<|assistant|>"
        assert str(text).startswith(str(prompt))
    assert len(encode(text)) == 7
    assert TOKENIZER.decode(encode(text), skip_special_tokens=True) == "personcitymakes"


def test_end_and_pad_are_two_tokens_of_their_own() -> None:
    assert encode("<|end|>") == [TOKENIZER.eos_token_id]
    assert encode("<|pad|>") == [TOKENIZER.pad_token_id]
    assert TOKENIZER.eos_token_id != TOKENIZER.pad_token_id
