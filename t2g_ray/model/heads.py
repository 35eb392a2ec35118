"""A configuration in Hugging Face's format -> the heads of its attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Heads:
    """How many read, how many are read, and how wide each of them is."""

    queries: int
    keys: int
    """At most `queries`; each is read by as many of those."""
    size: int


def heads_of(config: Any) -> Heads | None:
    """None where the configuration has not the usual fields."""
    queries = getattr(config, "num_attention_heads", None)
    if not queries:
        return None
    keys = getattr(config, "num_key_value_heads", None) or queries
    return Heads(queries, keys, getattr(config, "head_dim", None) or config.hidden_size // queries)
