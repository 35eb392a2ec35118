"""What is refused before a model is split, and what is left alone of one that is not.

Splitting needs ranks of DeepSpeed: tests/integration/test_sharded.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from t2g_ray.model.files.sharded import INDEX, WEIGHTS, is_split, layer_by_layer, whole, whole_shape
from t2g_ray.model.policy import build_tiny_policy, load_policy, save_policy
from t2g_ray.records.corpus import build_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = build_tokenizer()
    save_policy(policy(), tokenizer, tmp_path)
    return tmp_path


def policy() -> PreTrainedModel:
    return build_tiny_policy(build_tokenizer(), seed=0)


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as error:
        load_policy(folder, torch.float32, is_sharded=True)
    return str(error.value)


def test_a_model_without_safetensors_is_refused(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    assert "must read a model from safetensors, found no" in refusal(folder)


def test_a_missing_file_of_an_index_is_noticed(folder: Path) -> None:
    policy().save_pretrained(folder, max_shard_size="100KB")
    assert (folder / INDEX).is_file()
    min(folder.glob("model-*.safetensors")).unlink()
    assert "no complete set of files with an index" in refusal(folder)


def test_tied_tensors_that_differ_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    message = refusal(folder)
    assert "ties lm_head.weight to model.embed_tokens.weight" in message
    assert "set tie_word_embeddings to false" in message


def test_a_model_that_is_not_split_computes_as_always() -> None:
    plain, ids = policy(), torch.arange(300, 310)[None]
    before = plain(input_ids=ids).logits
    with layer_by_layer(plain), whole(plain.parameters()):
        assert torch.equal(plain(input_ids=ids).logits, before)
        assert not any(module._forward_pre_hooks for module in plain.modules())
    first = next(plain.parameters())
    assert whole_shape(first) == first.shape and not is_split(first)
