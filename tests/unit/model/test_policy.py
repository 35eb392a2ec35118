"""The tiny policy and the way every policy is saved and read."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from t2g_ray.model.policy import build_tiny_policy, load_policy, save_policy
from t2g_ray.model.source import is_embedded
from t2g_ray.records.corpus import build_tokenizer

TOKENIZER = build_tokenizer()


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model(torch.tensor([[300, 5, 301, 7]])).logits
    return output


def have_equal_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_only_the_word_embedded_names_the_embedded_policy() -> None:
    assert is_embedded("embedded")
    assert not is_embedded("Qwen/Qwen3-0.6B")
    assert not is_embedded("./embedded")


def test_one_seed_gives_one_policy_and_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = build_tiny_policy(TOKENIZER, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert have_equal_weights(first, build_tiny_policy(TOKENIZER, seed=0))
    assert not torch.allclose(logits_of(first), logits_of(build_tiny_policy(TOKENIZER, seed=1)))


def test_the_tiny_policy_is_small_full_precision_and_tied_to_its_tokenizer() -> None:
    model = build_tiny_policy(TOKENIZER, seed=0)
    assert sum(p.numel() for p in model.parameters()) < 300_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.vocab_size == len(TOKENIZER)
    assert model.config.eos_token_id == model.generation_config.eos_token_id
    assert model.config.eos_token_id == TOKENIZER.eos_token_id
    assert model.config.to_dict()["rope_parameters"]["rope_theta"] == 10_000.0


def test_a_saved_policy_is_read_back_unchanged(tmp_path: Path) -> None:
    model = build_tiny_policy(TOKENIZER, seed=2)
    save_policy(model, TOKENIZER, tmp_path / "model")
    read, tokenizer = load_policy(tmp_path / "model")
    assert have_equal_weights(read, model)
    assert torch.allclose(logits_of(read), logits_of(model), atol=1e-5)
    text = 'caf\u00e9 {"entities":[],"relations":[]}'
    assert tokenizer(text).input_ids == TOKENIZER(text).input_ids
    assert tokenizer.chat_template == TOKENIZER.chat_template
    assert tokenizer.eos_token_id == TOKENIZER.eos_token_id
    assert tokenizer.pad_token_id == TOKENIZER.pad_token_id


def test_a_saved_policy_loads_with_the_auto_classes(tmp_path: Path) -> None:
    model = build_tiny_policy(TOKENIZER, seed=2)
    save_policy(model, TOKENIZER, tmp_path)
    assert have_equal_weights(AutoModelForCausalLM.from_pretrained(tmp_path), model)
    text = "Ada works for Acme.\n"
    assert AutoTokenizer.from_pretrained(tmp_path).decode(TOKENIZER(text).input_ids) == text


def test_dtype_is_the_saved_one_unless_asked_for_another(tmp_path: Path) -> None:
    save_policy(build_tiny_policy(TOKENIZER, seed=0), TOKENIZER, tmp_path)
    assert load_policy(tmp_path)[0].dtype == torch.float32
    assert load_policy(str(tmp_path), torch.bfloat16)[0].dtype == torch.bfloat16
