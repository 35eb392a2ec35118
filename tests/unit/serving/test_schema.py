"""What a request may hold, and what is told where it does not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from t2g_ray.serving.schema import (
    MAX_TEXT_CHARS,
    MAX_TEXTS,
    MAX_TYPE_CHARS,
    MAX_TYPES,
    ExtractRequest,
)
from tests.unit.serving.parts import TEXT, request


def test_a_request_takes_one_text_or_several() -> None:
    assert request().all_texts == [TEXT]
    assert request(text=None, texts=["a", "b"]).all_texts == ["a", "b"]


def test_a_request_is_constrained_and_needs_no_relation_types() -> None:
    small = ExtractRequest.model_validate({"text": "a", "entity_types": ["b"]})
    assert (small.constrained, small.relation_types, small.thinking) == (True, [], None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": None}, "found neither"),
        ({"texts": ["a"]}, "found both"),
        ({"text": " \n"}, "more than blanks"),
        ({"text": "a" * (MAX_TEXT_CHARS + 1)}, "at most 20000 characters"),
        ({"text": None, "texts": ["a"] * (MAX_TEXTS + 1)}, "at most 32 items"),
        ({"text": None, "texts": []}, "at least 1 item"),
        ({"text": "\ud800"}, "valid string"),
        ({"entity_types": []}, "at least 1 item"),
        ({"entity_types": ["a", "a"]}, "named once"),
        ({"entity_types": ["a\nb"]}, "printable"),
        ({"entity_types": [" a"]}, "without blanks"),
        ({"entity_types": [""]}, "at least 1 character"),
        ({"entity_types": ["a" * (MAX_TYPE_CHARS + 1)]}, "at most 64 characters"),
        ({"entity_types": "person"}, "valid list"),
        ({"relation_types": [f"r{i}" for i in range(MAX_TYPES + 1)]}, "at most 64 items"),
        ({"thinking": True}, "no room for reasoning"),
        ({"temperature": 1}, "not permitted"),
    ],
)
def test_what_a_request_must_hold_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        request(**changes)


def test_a_free_answer_may_think() -> None:
    assert request(thinking=True, constrained=False).thinking is True
