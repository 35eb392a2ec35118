"""Shapes of models: their parameters, and where they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from t2g_ray.planning.shapes import PUBLISHED, read_shape, shape_of

BILLIONS = {
    "HuggingFaceTB/SmolLM2-135M": 0.1345,
    "Qwen/Qwen2.5-0.5B": 0.494,
    "Qwen/Qwen2.5-1.5B": 1.544,
    "Qwen/Qwen2.5-3B": 3.086,
    "Qwen/Qwen2.5-7B": 7.616,
    "Qwen/Qwen2.5-14B": 14.77,
    "Qwen/Qwen2.5-32B": 32.76,
    "Qwen/Qwen3-30B-A3B": 30.53,
}
"""Parameters, as the pages of these models give them."""


def test_the_table_has_the_sizes_of_the_models_it_names() -> None:
    assert {name: shape.parameters / 1e9 for name, shape in PUBLISHED.items()} == pytest.approx(
        BILLIONS, rel=0.002
    )


def test_a_token_goes_through_some_of_the_experts_and_no_embedding() -> None:
    experts = PUBLISHED["Qwen/Qwen3-30B-A3B"]
    assert experts.active_parameters == pytest.approx(3.03e9, rel=0.01)
    tied = PUBLISHED["Qwen/Qwen2.5-0.5B"]
    assert tied.active_parameters == tied.parameters


def test_the_instructed_model_and_the_embedded_policy_are_known() -> None:
    assert read_shape("Qwen/Qwen2.5-7B-Instruct") == PUBLISHED["Qwen/Qwen2.5-7B"]
    embedded = read_shape("embedded")
    assert embedded is not None
    assert embedded.parameters == pytest.approx(0.24e6, rel=0.1)


def test_a_model_that_is_not_here_or_of_another_kind_has_no_shape(tmp_path: Path) -> None:
    assert read_shape(str(tmp_path / "nowhere")) is None
    assert read_shape("owner/model-that-nobody-has") is None
    assert shape_of(transformers.MambaConfig()) is None
    transformers.LlamaConfig().save_pretrained(tmp_path)
    assert read_shape(str(tmp_path)) is not None


def test_a_revision_does_not_hide_the_shape_of_a_released_model() -> None:
    assert read_shape(f"Qwen/Qwen2.5-7B-Instruct@{'0' * 40}") == read_shape("Qwen/Qwen2.5-7B")
