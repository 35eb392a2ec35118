"""Which records are read and how they are shown: values at their bounds."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.config import PromptConfig
from t2g_ray.config.prompts import DataConfig


@pytest.mark.parametrize(
    ("section", "key", "good", "bad"),
    [
        (DataConfig, "train_records", 1, 0),
        (DataConfig, "heldout_records", 1, 0),
        (DataConfig, "level", "easy", "extreme"),
        (DataConfig, "overlooked", 1.0, 1.1),
        (DataConfig, "order", "small_first", "large_first"),
        (PromptConfig, "style", "compact", "short"),
        (PromptConfig, "max_tokens", 8, 7),
    ],
)
def test_a_value_beyond_its_bound_is_refused(section: Any, key: str, good: Any, bad: Any) -> None:
    assert getattr(section.model_validate({key: good}), key) == good
    with pytest.raises(ValueError, match=key):
        section.model_validate({key: bad})
