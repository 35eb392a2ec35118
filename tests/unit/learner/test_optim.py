"""Learning rates by hand, which matrices Muon takes, and what DeepSpeed is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from t2g_ray.config import LearnerConfig, OptimizerConfig
from t2g_ray.learner.optim import (
    add_up_in_float32,
    deepspeed_config,
    forget_first_step,
    frozen_config,
    lr_share,
    orthogonalise_in_float32,
    tag_for_muon,
)


def shares(total: int, **settings: object) -> list[float]:
    optimizer = OptimizerConfig.model_validate(settings)
    return [round(lr_share(optimizer, step, total), 6) for step in range(total)]


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    assert shares(6, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_linear_schedule_falls_to_its_final_share() -> None:
    # Four steps after the warm-up: progress 0, 1/4, 1/2, 3/4.
    found = shares(5, warmup_steps=1, schedule="linear", final_lr_share=0.2)
    assert found == [1.0, 1.0, 0.8, 0.6, 0.4]


def test_a_cosine_schedule_is_half_way_in_the_middle() -> None:
    found = shares(4, schedule="cosine")
    assert found == pytest.approx([1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2], abs=1e-6)


def test_a_step_past_the_end_keeps_the_final_share() -> None:
    optimizer = OptimizerConfig(schedule="cosine", final_lr_share=0.1)
    assert lr_share(optimizer, 50, 10) == pytest.approx(0.1)


def test_muon_takes_hidden_matrices_and_leaves_embeddings_heads_and_vectors() -> None:
    policy = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=20,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        )
    )
    tag_for_muon(policy)
    tagged = {name for name, p in policy.named_parameters() if p.use_muon}  # type: ignore[attr-defined]
    assert tagged == {
        f"model.layers.0.{layer}.weight"
        for layer in (
            *(f"self_attn.{name}_proj" for name in "qkvo"),
            *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
        )
    }


def test_a_module_without_a_head_can_be_tagged() -> None:
    module = nn.Linear(2, 3)
    tag_for_muon(module)
    assert (module.weight.use_muon, module.bias.use_muon) == (True, False)  # type: ignore[attr-defined]


def test_deepspeed_gets_the_learners_settings() -> None:
    optimizer = OptimizerConfig(lr=3e-4, max_grad_norm=0.5, weight_decay=0.1)
    told = deepspeed_config(
        LearnerConfig(zero_stage=2, dtype="bfloat16", optimizer=optimizer), trained_numbers=1000
    )
    assert told["zero_optimization"]["stage"] == 2
    assert told["gradient_clipping"] == 0.5
    assert told["bf16"] == {"enabled": True}
    # Accumulation differs from step to step and is driven by hand.
    assert told["gradient_accumulation_steps"] == 1
    assert told["optimizer"]["type"] == "AdamW"
    assert told["optimizer"]["params"]["lr"] == 3e-4
    assert told["optimizer"]["params"]["weight_decay"] == 0.1


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_bucket_is_not_larger_than_what_is_trained(stage: Any) -> None:
    def size(numbers: int) -> Any:
        told = deepspeed_config(LearnerConfig(zero_stage=stage), trained_numbers=numbers)
        return told["zero_optimization"]["reduce_bucket_size"]

    assert size(1000) == 1000
    assert size(10**10) == 500_000_000


def test_adamw_is_one_kernel_on_gpus_and_as_ever_on_cpus_and_on_the_host() -> None:
    plain = {"lr": 1e-6, "betas": [0.9, 0.99], "weight_decay": 0.0, "torch_adam": True}

    def told(**fields: object) -> object:
        learner = LearnerConfig.model_validate(fields)
        return deepspeed_config(learner, trained_numbers=1000)["optimizer"]["params"]

    assert told() == told(gpus=1, zero_stage=1, offload="optimizer") == plain
    assert told(gpus=1) == told(gpus=0.5, zero_stage=3) == {**plain, "fused": True}
    torch.optim.AdamW([nn.Parameter(torch.ones(1))], fused=True)  # torch knows the word


def test_only_the_optimiser_is_offloaded_and_never_by_a_kernel_of_deepspeed() -> None:
    def told(**fields: object) -> dict[str, object]:
        return deepspeed_config(
            LearnerConfig.model_validate({"zero_stage": 2, **fields}), trained_numbers=1000
        )

    host = told(offload="optimizer", gpus=1)
    assert host["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}  # type: ignore[index]
    assert host["zero_force_ds_cpu_optimizer"] is False
    kept = told(offload="activations", gradient_checkpointing=True)
    for section in (told(), kept):
        assert "offload_optimizer" not in section["zero_optimization"]  # type: ignore[operator]


def test_a_frozen_model_is_sharded_like_the_policy_and_has_no_optimiser() -> None:
    told = frozen_config(LearnerConfig(zero_stage=3, dtype="bfloat16"))
    assert told["zero_optimization"] == {"stage": 3}
    assert told["bf16"] == {"enabled": True}
    assert "optimizer" not in told


def test_what_deepspeed_did_to_a_new_optimiser_is_undone() -> None:
    from types import SimpleNamespace

    weight = torch.rand(4).bfloat16()
    master = nn.Parameter(weight.float())
    inner = torch.optim.AdamW([master], lr=0.1, weight_decay=0.5)
    master.grad = torch.zeros(4)
    inner.step()  # as DeepSpeed does
    assert not torch.equal(master, weight.float())
    forget_first_step(
        SimpleNamespace(fp16_groups=[[weight]], fp32_groups=[[master]], optimizer=inner)
    )
    assert torch.equal(master, weight.float())
    assert not inner.state


def test_muon_gets_both_of_its_rates() -> None:
    optimizer = OptimizerConfig(name="muon", lr=5e-3, muon_lr=0.02, muon_momentum=0.9)
    section = deepspeed_config(LearnerConfig(optimizer=optimizer), trained_numbers=1000)[
        "optimizer"
    ]
    assert section["type"] == "Muon"
    assert (section["params"]["muon_lr"], section["params"]["adam_lr"]) == (0.02, 5e-3)
    assert section["params"]["momentum"] == 0.9


def test_muon_computes_in_float32_where_the_processor_offers_float16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from deepspeed.runtime.zero.muon import original_muon

    accelerator = original_muon.get_accelerator()
    monkeypatch.setattr(accelerator, "is_fp16_supported", lambda: True)
    monkeypatch.setattr(original_muon, "ns_compute_dtype", original_muon.ns_compute_dtype)
    with torch.compiler.set_stance("force_eager"):  # compiling it takes minutes on a CPU
        assert original_muon.zeropower_via_gram_newtonschulz(torch.eye(2), 5).dtype == torch.float16
        orthogonalise_in_float32()
        assert original_muon.zeropower_via_gram_newtonschulz(torch.eye(2), 5).dtype == torch.float32


@pytest.mark.parametrize("count", [2, 16, 64, 256, 1000])
def test_gradients_of_bf16_are_added_up_in_fp32(count: int) -> None:
    layer = nn.Linear(8, 8).to(torch.bfloat16)
    layer.bias.requires_grad_(False)
    add_up_in_float32(layer)
    rows = torch.rand(count, 8, generator=torch.Generator().manual_seed(count)).bfloat16()
    for row in rows:
        layer(row).sum().backward()
    gradient = layer.weight.grad
    assert gradient is not None and gradient.dtype == torch.float32
    expected = rows.double().sum(0).expand(8, 8)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_adds_up_and_sends_gradients_of_bf16_in_fp32(stage: int) -> None:
    told = deepspeed_config(LearnerConfig(dtype="bfloat16", zero_stage=stage), trained_numbers=1000)  # type: ignore[arg-type]
    assert told["communication_data_type"] == "fp32"
    # Without sharding it refuses the other setting.
    assert ("data_types" in told) == (stage > 0)
    plain = deepspeed_config(LearnerConfig(zero_stage=stage), trained_numbers=1000)  # type: ignore[arg-type]
    assert not {"communication_data_type", "data_types"} & plain.keys()
