"""Heads of attention, as configurations of transformers give them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from t2g_ray.model.heads import Heads, heads_of


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_key_value_heads": 2, "head_dim": 32}, Heads(4, 2, 32)),
        ({"head_dim": None}, Heads(4, 4, 16)),
        ({"num_key_value_heads": None}, Heads(4, 4, 16)),
    ],
)
def test_what_is_not_given_follows_from_the_rest(
    fields: dict[str, object], expected: Heads
) -> None:
    config = SimpleNamespace(num_attention_heads=4, hidden_size=64, **fields)
    assert heads_of(config) == expected


def test_a_configuration_without_attention_has_no_heads() -> None:
    assert heads_of(SimpleNamespace(hidden_size=64)) is None
