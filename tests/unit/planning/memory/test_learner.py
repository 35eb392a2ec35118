"""Estimated memory of a learner rank: against models of transformers, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from t2g_ray.config import GrpoConfig, LearnerConfig, build_config, load_config
from t2g_ray.planning.memory.learner import GIB, learner_memory, memory_line
from t2g_ray.planning.shapes import ModelShape, shape_of

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
HALF_B = ModelShape(
    layers=24, hidden=896, inner=4864, queries=896, keys=128, vocab=151_936, is_tied=True
)
"""Qwen2.5-0.5B."""
ONE_AND_A_HALF_B = ModelShape(
    layers=28, hidden=1536, inner=8960, queries=1536, keys=256, vocab=151_936, is_tied=True
)
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
KINDS = {
    "Qwen2Config": {"tie_word_embeddings": True},
    "LlamaConfig": {"tie_word_embeddings": False},
    "Qwen3Config": {"head_dim": 64},
    "Qwen3MoeConfig": {"head_dim": 32, **EXPERTS},
}


def model_of(kind: str, dtype: torch.dtype) -> Any:
    config = getattr(transformers, kind)(**SMALL, **KINDS[kind])
    return transformers.AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation="sdpa"
    ).train()


def bytes_kept(model: Any, num_tokens: int) -> int:
    """What a forward pass keeps for the backward one, weights left out, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = model.model(torch.arange(num_tokens)[None] % 512).last_hidden_state
    assert states.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_activations_are_those_of_the_model(kind: str) -> None:
    for dtype, name in ((torch.bfloat16, "bfloat16"), (torch.float32, "float32")):
        model = model_of(kind, dtype)
        shape = shape_of(model.config)
        assert shape is not None
        real = sum(p.numel() for p in model.parameters())
        assert shape.parameters == pytest.approx(real, rel=0.01)
        learner = LearnerConfig(dtype=name, token_budget=256, head_chunk_mib=1)  # type: ignore[arg-type]
        estimate = learner_memory(learner, shape).activations * GIB - 4 * 2**20
        assert estimate == pytest.approx(bytes_kept(model, 256), rel=0.2)


def test_a_bf16_learner_keeps_18_bytes_a_parameter_and_sharding_divides_them() -> None:
    def states(stage: int, **tree: Any) -> float:
        settings = {"dtype": "bfloat16", "ranks": 4, "zero_stage": stage, **tree}
        memory = learner_memory(LearnerConfig(**settings), HALF_B)
        return memory.states * GIB / HALF_B.parameters

    shares = [2 + 4 + 12, 2 + 4 + 3, 2 + 1 + 3, 0.5 + 1 + 3]
    assert [states(stage) for stage in range(4)] == pytest.approx(shares)
    assert states(0, dtype="float32") == pytest.approx(4 + 4 + 8)
    assert states(0, lora={"rank": 8}) < 2.2
    assert states(3, offload="optimizer") == pytest.approx(0.5 + 1)


def test_inputs_of_layers_that_are_kept_on_the_host_are_not_counted() -> None:
    def activations(offload: str) -> float:
        tree = {"gradient_checkpointing": True, "offload": offload, "token_budget": 4096}
        return learner_memory(LearnerConfig.model_validate(tree), HALF_B).activations * GIB

    inputs = 4096 * 4 * HALF_B.layers * HALF_B.hidden
    assert activations("none") - activations("activations") == pytest.approx(inputs)


def test_the_shipped_budgets_fit_their_cards_and_would_not_without_recomputing() -> None:
    cluster = load_config(GrpoConfig, CONFIGS / "cluster_8x.yaml")
    assert "of 44" in memory_line(cluster, ONE_AND_A_HALF_B, 44.5)
    kept = load_config(
        GrpoConfig, CONFIGS / "cluster_8x.yaml", ["learner.gradient_checkpointing=false"]
    )
    with pytest.raises(ValueError, match=r"found 44; lower learner\.token_budget, set"):
        memory_line(kept, ONE_AND_A_HALF_B, 44.5)
    one = load_config(GrpoConfig, CONFIGS / "gpu_1x.yaml")
    assert "of 22" in memory_line(one, HALF_B, 22.0)


def test_an_engine_at_the_same_time_leaves_the_rest_of_the_gpu() -> None:
    tree = {"run_dir": "x", "device": "cuda", "colocate": "share"}
    config = build_config(GrpoConfig, tree)
    assert "of 24" in memory_line(config, HALF_B, 40.0)
    with pytest.raises(ValueError, match="found 12"):
        memory_line(config, HALF_B, 20.0)
    reference = build_config(GrpoConfig, {**tree, "algorithm": {"kl_coef": 0.1}})
    assert memory_line(reference, HALF_B, None) != memory_line(config, HALF_B, None)
