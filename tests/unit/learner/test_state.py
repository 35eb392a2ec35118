"""What a learner's state says of its tensors, compared before one of them is read.

Saving and restoring need ranks of DeepSpeed: tests/integration/test_learner.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from t2g_ray.config import LearnerConfig, LoraConfig
from t2g_ray.learner.state import TRAINED, Trained, load_state, trained_of
from t2g_ray.model.lora import add_adapters
from t2g_ray.model.policy import build_tiny_policy
from t2g_ray.records.corpus import build_tokenizer


def policy(lora: LoraConfig | None = None) -> PreTrainedModel:
    made = build_tiny_policy(build_tokenizer(), seed=0)
    if lora is not None:
        add_adapters(made, lora, seed=0)
    return made


def trained(lora: LoraConfig | None = None, start: str | None = None, **tree: Any) -> Trained:
    return trained_of(policy(lora), LearnerConfig.model_validate(tree), step=3, start=start)


def refuse(folder: Path, saved: Trained, own: Trained) -> str:
    """The refusal of an engine that would fail if anything was read."""
    (folder / TRAINED).write_text(json.dumps(asdict(saved)))
    with pytest.raises(ValueError) as error:
        load_state(None, folder, own)
    return str(error.value)


ADAPTERS = LoraConfig(rank=4, alpha=32, targets=["q_proj"])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (ADAPTERS.model_copy(update={"targets": ["v_proj"]}), "v_proj"),
        (ADAPTERS.model_copy(update={"targets": ["q_proj", "v_proj"]}), "v_proj.*was None"),
        (ADAPTERS.model_copy(update={"targets": []}), "other 3.*tensors"),
        (ADAPTERS.model_copy(update={"alpha": 64}), r"q_proj: was 8\.0, is 16\.0"),
        (ADAPTERS.model_copy(update={"rank": 8}), r"was \[4, 64\], is \[8, 64\]"),
        (None, "is None"),
    ],
)
def test_other_adapters_are_refused_in_both_directions(
    tmp_path: Path, other: LoraConfig | None, said: str
) -> None:
    message = refuse(tmp_path, trained(ADAPTERS), trained(other))
    assert re.search(said, message)
    assert "give another run_dir" in message
    refuse(tmp_path, trained(other), trained(ADAPTERS))


CHANGES: dict[str, Callable[[dict[str, list[int]]], dict[str, list[int]]]] = {
    "renamed": lambda tensors: {f"model.{name}": shape for name, shape in tensors.items()},
    "reordered": lambda tensors: dict(reversed(tensors.items())),
    "one less": lambda tensors: dict(list(tensors.items())[:-1]),
    "one more": lambda tensors: {**tensors, "extra.weight": [2]},
    "transposed": lambda tensors: {name: shape[::-1] for name, shape in tensors.items()},
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_tensors_are_refused(tmp_path: Path, name: str) -> None:
    own = trained()
    saved = replace(own, tensors=CHANGES[name](dict(own.tensors)))
    assert "tensors, such as" in refuse(tmp_path, saved, own)


def test_another_precision_or_starting_policy_is_refused(tmp_path: Path) -> None:
    own = trained(start="a")
    assert "precision: was bfloat16, is float32" in refuse(
        tmp_path, replace(own, dtype="bfloat16"), own
    )
    assert "must have the policy that it started from" in refuse(
        tmp_path, replace(own, start="b"), own
    )


MUON = {"optimizer": {"name": "muon"}}


@pytest.mark.parametrize(
    ("saved", "own"),
    [
        ({}, {"zero_stage": 2}),
        ({"zero_stage": 1}, {}),
        ({"zero_stage": 1}, {"zero_stage": 2}),
        ({"zero_stage": 3, "ranks": 2}, {"zero_stage": 3}),
        ({}, MUON),
        (MUON, {}),
    ],
)
def test_a_state_that_lies_otherwise_is_refused(
    tmp_path: Path, saved: dict[str, Any], own: dict[str, Any]
) -> None:
    assert "layout: was" in refuse(tmp_path, trained(**saved), trained(**own))


def test_ranks_that_hold_the_whole_state_read_what_others_wrote() -> None:
    assert trained(ranks=2) == trained(ranks=1)
    half = {"dtype": "bfloat16"}  # of the settings; the tensors here are made by hand
    assert trained(ranks=2, **half).layout != trained(ranks=1, **half).layout


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=TRAINED):
        load_state(None, tmp_path, trained())


def test_only_what_is_trained_is_listed_with_the_scaling_of_its_adapters() -> None:
    whole, adapters = trained(), trained(ADAPTERS)
    assert list(whole.tensors) == [name for name, _ in policy().named_parameters()]
    assert (whole.scalings, whole.dtype) == ({}, "float32")
    assert len(adapters.tensors) == 2 * 3  # A and B in each of three layers
    assert list(adapters.scalings.values()) == [32 / 4] * 3
    shapes: Any = list(adapters.tensors.values())
    assert shapes[:2] == [[4, 64], [128, 4]]
