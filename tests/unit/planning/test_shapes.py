"""Shapes of models: their parameters, and where they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from t2g_ray.planning.shapes import ModelShape, read_shape, shape_of

HALF_B = ModelShape(
    layers=24, hidden=896, inner=4864, queries=896, keys=128, vocab=151_936, is_tied=True
)
"""Qwen2.5-0.5B."""
ONE_AND_A_HALF_B = ModelShape(
    layers=28, hidden=1536, inner=8960, queries=1536, keys=256, vocab=151_936, is_tied=True
)


def test_the_shapes_are_those_of_the_models_named() -> None:
    assert HALF_B.parameters == pytest.approx(0.494e9, rel=0.001)
    assert ONE_AND_A_HALF_B.parameters == pytest.approx(1.544e9, rel=0.001)


def test_a_model_that_is_not_here_or_of_another_kind_has_no_shape(tmp_path: Path) -> None:
    assert read_shape(str(tmp_path / "nowhere")) is None
    assert read_shape("owner/model-that-nobody-has") is None
    assert shape_of(transformers.MambaConfig()) is None
    transformers.LlamaConfig().save_pretrained(tmp_path)
    assert read_shape(str(tmp_path)) is not None
