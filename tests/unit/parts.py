"""What several unit tests build alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t2g_ray.types import GroupSummary


def group_summary(
    index: int = 0, rewards: Sequence[float] = (1.0, 0.0), *, version: int = 0, **fields: Any
) -> GroupSummary:
    """A group of graded completions of 2, 3 ... tokens, whose F1 is the reward."""
    lengths = fields.get("lengths", tuple(range(2, 2 + len(rewards))))
    values: dict[str, Any] = {
        "f1": tuple(rewards),
        "is_valid": (True,) * len(rewards),
        "lengths": lengths,
        "prompt_tokens": 4,
        "is_truncated": (False,) * len(rewards),
        "num_parsed": 1,
        "min_version": version,
        "max_version": version,
        "tokens_by_version": {version: sum(lengths)},
        "parts": {"json": 0.5},
        "entities": (0, 0, 0),
        "relations": (0, 0, 0),
        "sampler": 0,
        "generate_s": 0.1,
        "score_s": 0.1,
    }
    return GroupSummary(index=index, rewards=tuple(rewards), **{**values, **fields})
